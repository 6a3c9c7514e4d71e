// Deciding about dead letters: what it would do is asked first (`dry_run`), and shown before it is done.

import { ask } from "./api.js";
import { chosen, unchoose, watchChoice } from "./choosing.js";
import { askFirst, attempt, field } from "./dialog.js";
import { tell } from "./dom.js";
import { refresh } from "./refresh.js";
import { t } from "./words.js";

const SHOWN = 12;

async function decide(verb, order) {
  const foreseen = await ask("POST", `/dead-letters/${verb}`, { ...order, dry_run: true });
  const more = foreseen.letters.length - SHOWN;
  const preview = foreseen.letters.slice(0, SHOWN).map((letter) => letter.becomes ? `${letter.name} → ${letter.becomes}` : letter.name);
  askFirst({
    title: t(`letters.title.${verb}`),
    says: [...told("would", verb, foreseen), t(`letters.means.${verb}`)],
    preview: more > 0 ? [...preview, t("letters.and_more", { count: more })] : preview,
    fields: [field(t("ask.reason"), "reason", { maxLength: 2000 })],
    does: t(`letters.${verb}`),
    isGrave: verb === "purge",
    act: async ({ reason }) => {
      const done = await ask("POST", `/dead-letters/${verb}`, { ...order, reason });
      unchoose();
      document.activeElement?.blur();
      await refresh();
      told("done", verb, done).forEach((sentence) => tell(sentence));
    },
  });
}

/** Return what would be done, or is done, a sentence each, of an answer's counts. */
function told(when, verb, { counts, copies }) {
  const said = [t(`letters.${when}.${verb}`, { count: counts.settled ?? 0 })];
  if (copies) said.push(t(`letters.copies.${when}`, { count: copies }));
  for (const [verdict, count] of Object.entries(counts)) {
    if (verdict !== "settled" && count) said.push(t(`letters.not.${verdict}`, { count }));
  }
  return said;
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-decide]");
  if (!button) return;
  const order = button.dataset.order ? JSON.parse(button.dataset.order) : { name: chosen().map((box) => box.dataset.letter) };
  attempt(() => decide(button.dataset.decide, order));
});
watchChoice();
