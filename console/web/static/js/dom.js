// Making elements. Text is always text: nothing here reads HTML.

/** Return an element with properties, and children that are elements or text. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("data-") || name.startsWith("aria-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Return text from data, which moves nothing around it whichever way it runs. */
export const data = (text) => make("bdi", {}, String(text));

/** Tell somebody something, for a while. */
export function tell(sentence, isBad = false) {
  const said = make("p", { className: isBad ? "is-bad" : "" }, data(sentence));
  document.getElementById("told").append(said);
  setTimeout(() => said.remove(), isBad ? 15_000 : 8_000);
}
