// The keyboard: every page by two keys, rows by j and k, and the list of all by a question mark.

const GO_MS = 1200;
let went = 0;

function isTyping(target) {
  return target.closest("input:not([type=checkbox]), textarea, select, [contenteditable]") !== null;
}

function step(by) {
  const rows = [...document.querySelectorAll("main tbody tr")].map((row) => row.querySelector("a, button")).filter(Boolean);
  if (!rows.length) return;
  const here = rows.findIndex((link) => link.closest("tr").contains(document.activeElement));
  rows[Math.min(rows.length - 1, Math.max(0, here + by))].focus();
}

const DOES = {
  "/": () => { const field = document.querySelector("[data-search]"); field?.focus(); field?.select(); },
  "?": () => document.getElementById("keys").showModal(),
  j: () => step(1),
  k: () => step(-1),
  l: () => document.querySelector("[data-live-switch]:not([hidden])")?.click(),
  t: () => {
    const buttons = [...document.querySelectorAll("[name=theme]")];
    const now = buttons.findIndex((button) => button.getAttribute("aria-pressed") === "true");
    buttons[(now + 1) % buttons.length]?.click();
  },
};

document.addEventListener("keydown", (pressed) => {
  const { key, target } = pressed;
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey || pressed.defaultPrevented) return;
  if (isTyping(target)) {
    if (key === "Escape") target.blur();
    return;
  }
  if (document.querySelector("dialog[open]") || target.matches("canvas") && key !== "g" && key !== "?") return;
  if (performance.now() - went < GO_MS) {
    went = 0;
    const link = [...document.querySelectorAll("nav a[data-key]")].find((one) => one.dataset.key === key);
    if (link) { pressed.preventDefault(); link.click(); return; }
  }
  if (key === "g") went = performance.now();
  else if (DOES[key]) { pressed.preventDefault(); DOES[key](); }
});
for (const button of document.querySelectorAll("[data-keys]")) {
  button.hidden = false;
  button.addEventListener("click", DOES["?"]);
}
