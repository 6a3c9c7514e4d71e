// Steering subscribers: pause, resume, limits; several at once after a look at what will happen.

import { ask, part } from "./api.js";
import { chosen, unchoose, watchChoice } from "./choosing.js";
import { askFirst, field } from "./dialog.js";
import { tell } from "./dom.js";
import { refresh } from "./refresh.js";
import { t } from "./words.js";

function steer(verb, boxes) {
  askFirst({
    title: t(`subscriptions.title.${verb}`),
    says: [t(`subscriptions.means.${verb}`)],
    preview: boxes.map(({ dataset }) => t(`subscriptions.preview.${verb}`,
      { name: dataset.subscriber, running: +dataset.running, ready: +dataset.ready, waiting: +dataset.waiting })),
    does: t(`subscriptions.${verb}`),
    act: async () => {
      for (const { dataset } of boxes) {
        const done = await ask("POST", `/subscribers/${part(dataset.subscriber)}/${verb}`);
        tell(t(`subscriptions.done.${verb}`, { name: dataset.subscriber }));
        warn(done);
      }
      await renewed();
    },
  });
}

function limit({ limits, concurrency, rate }) {
  askFirst({
    title: t("subscriptions.limits_of", { name: limits }),
    says: [t("subscriptions.limit.hint")],
    fields: [
      field(t("subscriptions.limit.concurrency"), "concurrency", { value: concurrency, inputMode: "numeric" }),
      field(t("subscriptions.limit.rate"), "rate", { value: rate, inputMode: "decimal" }),
    ],
    does: t("subscriptions.set"),
    act: async (values) => {
      const body = { concurrency: read(values.concurrency), rate: read(values.rate) };
      const done = await ask("PATCH", `/subscribers/${part(limits)}/limits`, body);
      tell(t("subscriptions.done.limits", { name: limits }));
      warn(done);
      await renewed();
    },
  });
}

/** Tell what somebody should know of a change. */
function warn({ unheeded, trouble }) {
  if (unheeded.length) tell(t("subscriptions.unheeded", { count: unheeded.length, workers: unheeded.join(", ") }), true);
  if (trouble) tell(t("subscriptions.trouble", { trouble }), true);
}

/** Read a limit as the API takes it; what is no number is sent as it is, and refused in a sentence. */
function read(text) {
  const word = text.trim();
  if (word === "") return "code";
  if (word === "none") return null;
  return Number.isNaN(Number(word)) ? word : Number(word);
}

async function renewed() {
  unchoose();
  document.activeElement?.blur();
  await refresh();
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-steer], [data-limits]");
  if (!button) return;
  const { steer: verb, limits, subscriber } = button.dataset;
  if (limits !== undefined) limit(button.dataset);
  else steer(verb, subscriber ? [...document.querySelectorAll("td.pick input")].filter((box) => box.dataset.subscriber === subscriber) : chosen());
});
watchChoice();
