// What the console says, from the same catalogues as the server's pages.

const catalogue = await (await fetch(`/static/words/${document.documentElement.lang}.json`)).json();

/** Return a text with its values; of `key.one` instead, if there is one and `count` is 1. */
export function t(key, values = {}) {
  const name = values.count === 1 && `${key}.one` in catalogue ? `${key}.one` : key;
  return catalogue[name].replace(/\{(\w+)\}/g, (_, value) =>
    typeof values[value] === "number" ? values[value].toLocaleString("en") : String(values[value]));
}

/** Tell whether there is a text. */
export const knows = (key) => key in catalogue;
