// What every page loads: the keyboard, colours, ages that grow, and what its own page needs. Pages are complete
// without any of it.

import "./keys.js";
import "./theme.js";
import { age } from "./formats.js";
import { follow, seldom } from "./live.js";
import { refresh } from "./refresh.js";
import { t } from "./words.js";

// On a phone the pages are a strip that is wider than the screen: the one that is shown is in its middle.
const strip = document.querySelector(".side nav");
const current = strip?.querySelector("[aria-current]")?.getBoundingClientRect();
if (current) strip.scrollLeft += current.left - strip.getBoundingClientRect().left - (strip.clientWidth - current.width) / 2;

const REFRESH_MS = 2000;
const AGES_MS = 10_000;
const PAGES = { overview: "overview", project: "project", events: "events", event: "event", graph: "graph/page", letters: "letters", subscriptions: "subscriptions", scheduled: "scheduled" };
const { page, follow: stream, always } = document.body.dataset;
const isAlways = always !== undefined;
const loaded = page in PAGES ? await import(`./${PAGES[page]}.js`) : {};
// Somebody listens now to the buttons that act: until then they are not shown, so that no click is lost.
document.documentElement.dataset.ready = "";

// What changes with every look, whatever happens.
const RESTLESS = new Set(["at", "point", "points", "busiest", "quiet_s"]);

if (stream) {
  const renew = seldom(REFRESH_MS, refresh);
  let before = null;
  follow(() => stream, (found) => {
    loaded.heard?.(found);
    const now = JSON.stringify(found, (name, value) => RESTLESS.has(name) ? undefined : value);
    const isFirstLook = "points" in found && before === null;
    if (isAlways || now !== before && !isFirstLook) renew();
    before = now;
  });
}

function grow() {
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const text = t("ago", { age: age(Date.parse(time.dateTime)) });
    if (time.textContent !== text) time.textContent = text;
  }
}
setInterval(grow, AGES_MS);
