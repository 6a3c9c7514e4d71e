// The page of history: what happens is put on top while it is followed.

import { duration, exact, money, NOTHING } from "./formats.js";
import { follow } from "./live.js";

const MOST_ROWS = 500;
const template = document.querySelector("template[data-row]");
const body = document.querySelector("[data-rows]");
const { stream, after } = document.body.dataset;
// What is shown ends there; what came since, or while the page was hidden, comes first when it is followed.
let last = after;

function row(event) {
  const made = template.content.cloneNode(true);
  const fill = (name, text) => { made.querySelector(`[data-of=${name}]`).textContent = text; };
  for (const name of ["type", "project_id", "actor", "event_id"]) fill(name, event[name]);
  fill("date", exact(event.timestamp).slice(0, 11));
  fill("clock", exact(event.timestamp).slice(11));
  fill("cost", money(event.metadata.cost, event.metadata.currency));
  fill("latency", typeof event.metadata.latency_ms === "number" ? duration(event.metadata.latency_ms) : NOTHING);
  fill("deliveries", event.deliveries.length);
  made.querySelector("time").dateTime = event.timestamp;
  made.querySelector("a.type").href = `/event?${new URLSearchParams({ id: event.event_id })}`;
  made.querySelector("a.to-graph").href = `/graph?${new URLSearchParams({ id: event.event_id })}`;
  made.querySelector("a.quiet").href = `/project?${new URLSearchParams({ id: event.project_id })}`;
  return made;
}

function hear(event, position) {
  last = position;
  document.getElementById("history").hidden = false;
  document.querySelector("[data-empty]")?.remove();
  body.prepend(row(event));
  while (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
}

if (body && stream) follow(() => `${stream}${stream.includes("?") ? "&" : "?"}after=${last}`, hear, false);
