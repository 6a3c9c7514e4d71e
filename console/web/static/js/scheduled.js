// Taking scheduled events back, some at once, after a look at which.

import { ask, part } from "./api.js";
import { chosen, unchoose, watchChoice } from "./choosing.js";
import { askFirst } from "./dialog.js";
import { tell } from "./dom.js";
import { refresh } from "./refresh.js";
import { t } from "./words.js";

const SHOWN = 12;

function cancel(boxes) {
  const preview = boxes.slice(0, SHOWN).map(({ dataset }) => dataset.says);
  const more = boxes.length - preview.length;
  let done = 0;
  askFirst({
    title: t("scheduled.title"),
    says: [t("scheduled.means")],
    preview: more > 0 ? [...preview, t("scheduled.and_more", { count: more })] : preview,
    does: t("scheduled.cancel"),
    isGrave: true,
    act: async () => {
      try {
        while (boxes.length) {
          const { dataset } = boxes.shift(); // asked again after a refusal, it goes on with the next one
          await ask("DELETE", `/scheduled/${part(dataset.scheduled)}`);
          done += 1;
        }
      } finally {
        unchoose();
        document.activeElement?.blur();
        await refresh();
        if (done) tell(t("scheduled.done", { count: done }));
      }
    },
  });
}

document.addEventListener("click", ({ target }) => {
  if (target.closest("[data-cancel]")) cancel(chosen());
});
watchChoice();
