// What is told of the chosen event: its own numbers, and those of all that it set off.

import { data, make } from "../dom.js";
import { duration, money, sums } from "../formats.js";
import { knows, t } from "../words.js";
import { stateOf } from "./looks.js";

/** Show a node in the place beside the canvas; without one, what to do. */
export function tellOf(aside, node) {
  if (!node) {
    aside.replaceChildren(make("p", { className: "muted" }, t("graph.node.none")));
    return;
  }
  const own = node.data;
  const state = stateOf(own);
  aside.replaceChildren(
    make("h3", {}, data(own.type)),
    make("p", { className: "muted" }, data(own.actor), " ", make("span", { className: `chip chip-${state}` }, knows(`state.${state}`) ? t(`state.${state}`) : state)),
    make("h4", {}, t("graph.node.own")),
    facts([["event.cost", money(own.cost, own.currency)], ["event.latency", duration(own.latency_ms)]]),
    make("h4", {}, t("graph.node.subtree")),
    facts([
      ["numbers.events", own.count.toLocaleString("en")], ["numbers.cost", sums(own.cost_by_currency)],
      ["graph.latency_total", duration(own.latency_total_ms)], ["graph.elapsed", duration(own.elapsed_ms)],
      ["graph.open", own.waiting_total.toLocaleString("en")], ["subscriber.dead", own.dead_total.toLocaleString("en")],
    ]),
    make("a", { className: "button small", href: `/event?${new URLSearchParams({ id: own.event_id })}` }, t("graph.node.open")),
  );
}

function facts(rows) {
  return make("dl", {}, rows.map(([key, value]) => make("div", {}, make("dt", {}, t(key)), make("dd", {}, value))));
}
