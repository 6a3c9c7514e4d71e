// Choosing rows: a box a row, one for all, and buttons that wait for a choice. Parts that are renewed lose nothing,
// because a part with a choice in it is not renewed.

import { t } from "./words.js";

/** Return the boxes that are chosen. */
export const chosen = () => [...document.querySelectorAll("td.pick input:checked")];

/** Unchoose all. */
export function unchoose() {
  for (const box of document.querySelectorAll(".bulk [data-all], td.pick input")) box.checked = false;
  settle();
}

/** Keep the bar above a table in step with the boxes in it. */
export function watchChoice(settled = () => {}) {
  const change = (changed) => {
    if (changed.target.matches("[data-all]")) {
      for (const box of document.querySelectorAll("td.pick input")) box.checked = changed.target.checked;
    }
    settle();
    settled();
  };
  document.addEventListener("change", change);
  document.addEventListener("renewed", settle);
  settle();
}

function settle() {
  const bar = document.querySelector("[data-bulk]");
  if (!bar) return;
  const count = chosen().length;
  bar.hidden = false;
  const word = bar.querySelector("[data-chosen]");
  word.dataset.chosen ||= word.textContent;
  word.textContent = count ? t("letters.chosen", { count }) : word.dataset.chosen;
  bar.querySelector("[data-all]").indeterminate = count > 0 && count < document.querySelectorAll("td.pick input").length;
  for (const button of bar.querySelectorAll("button:not([data-order])")) button.disabled = count === 0;
}
