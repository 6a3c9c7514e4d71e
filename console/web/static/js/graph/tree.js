// The tree of a root as the API tells it, laid out: columns by depth, rows by breadth.

import { hierarchy, tree } from "../../vendor/d3-hierarchy/d3-hierarchy.min.js";
import { ask, part } from "../api.js";

const MOST = 50_000;

/** Return the laid-out tree below an event: nodes with `data`, `parent`, `children`, `column` and `row`. */
export async function fetchTree(root) {
  const { nodes } = await ask("GET", `/events/${part(root)}/tree?limit=${MOST}`);
  const below = new Map();
  for (const node of nodes.slice(1)) {
    const cause = node.causation_id ?? nodes[0].event_id;
    if (!below.has(cause)) below.set(cause, []);
    below.get(cause).push(node);
  }
  return laidOut(hierarchy(nodes[0], (node) => below.get(node.event_id)));
}

/** Lay a tree out. Source: d3-hierarchy's tidy tree, after Buchheim, Jünger and Leipert (2002). */
export function laidOut(root) {
  tree().nodeSize([1, 1]).separation((one, other) => (one.parent === other.parent ? 1 : 1.4))(root);
  const nodes = root.descendants();
  const top = nodes.reduce((least, node) => Math.min(least, node.x), 0);
  for (const node of nodes) {
    node.row = node.x - top;
    node.column = node.depth;
  }
  const rows = nodes.reduce((most, node) => Math.max(most, node.row), 0);
  const columns = nodes.reduce((most, node) => Math.max(most, node.column), 0);
  return { root, nodes, rows, columns, byId: new Map(nodes.map((node) => [node.data.event_id, node])) };
}
