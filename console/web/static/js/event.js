// An event's page: delivering it again.

import { ask, part } from "./api.js";
import { askFirst, field } from "./dialog.js";
import { make, tell } from "./dom.js";
import { refresh } from "./refresh.js";
import { t } from "./words.js";

function redeliver({ redeliver: id, subscriber, subscribers }) {
  const choice = make("select", { name: "to" }, ...JSON.parse(subscribers ?? "[]").map((name) => make("option", { value: name }, name)));
  const to = make("label", { className: "field" }, make("span", {}, t("redeliver.subscriber")), choice);
  askFirst({
    title: t("redeliver.title"),
    says: subscriber ? [t("redeliver.says", { subscriber })] : [],
    fields: [...(subscriber ? [] : [to]), field(t("ask.reason"), "reason", { maxLength: 2000 })],
    does: t("redeliver"),
    act: async (values) => {
      const body = { event_id: id, reason: values.reason };
      const { made } = await ask("POST", `/subscribers/${part(subscriber ?? values.to)}/redeliver`, body);
      document.activeElement?.blur();
      await refresh();
      tell(made ? t("redeliver.made", { count: made }) : t("redeliver.none"), !made);
    },
  });
}

document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-redeliver]");
  if (button) redeliver(button.dataset);
});
