// One dialog that asks: what will happen, why, and whether to do it.

import { data, make, tell } from "./dom.js";
import { t } from "./words.js";

/**
 * Ask, and do it.
 * @param title a question. says sentences. preview lines of what is meant. fields elements with a `name`.
 * @param does what the button says. isGrave whether it cannot be undone.
 * @param act is called with the fields' values; what it throws is shown, and the dialog stays.
 */
export function askFirst({ title, says = [], preview = [], fields = [], does, isGrave = false, act }) {
  const trouble = make("p", { className: "problem", hidden: true });
  trouble.setAttribute("role", "alert");
  const go = make("button", { className: `button primary${isGrave ? " danger" : ""}`, type: "submit" }, does);
  const stop = make("button", { className: "button", type: "button" }, t("ask.cancel"));
  const form = make("form", {}, ...fields, trouble, make("div", { className: "ends" }, stop, go));
  const box = make("dialog", { "aria-label": title }, make("h2", {}, data(title)), ...says.map((one) => make("p", {}, data(one))),
    preview.length ? make("ul", { className: "preview" }, preview.map((one) => make("li", {}, data(one)))) : null, form);
  stop.addEventListener("click", () => box.close());
  box.addEventListener("close", () => box.remove());
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    go.disabled = true;
    go.textContent = t("ask.working");
    try {
      await act(values);
      box.close();
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
    go.disabled = false;
    go.textContent = does;
  });
  document.body.append(box);
  box.showModal();
  (fields.length ? form.querySelector("input, select, textarea") : go).focus();
}

/** Return a field of a form. */
export function field(label, name, properties = {}, tag = "input") {
  return make("label", { className: "field" }, make("span", {}, label), make(tag, { name, autocomplete: "off", ...properties }));
}

/** Do something that somebody asked for; what fails is told. */
export async function attempt(act) {
  try {
    await act();
  } catch (error) {
    tell(error.message, true);
  }
}
