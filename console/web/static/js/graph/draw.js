// Draws a laid-out tree on a 2D context. Only what is seen is drawn, in a few strokes.

import { place } from "./view.js";

const LABELS_FROM_ROW = 12;
const LABEL_HEIGHT = 15;
const TAU = 2 * Math.PI;

/** Tell by how much nodes shrink when rows or columns are close. */
export const shrink = (view) => Math.min(1.25, Math.max(0.3, Math.min(view.row, view.column) / 15));

/**
 * Draw a tree.
 * @param look with `radius` and `colour` of a node, the `palette`, whether `critical` is shown, the `chosen` node.
 */
export function draw(context, laid, view, width, height, look) {
  context.clearRect(0, 0, width, height);
  const isSeen = (node) => {
    const [x, y] = place(view, node);
    return y > -20 && y < height + 20 && x > -view.column && x < width + 20;
  };
  const seen = laid.nodes.filter(isSeen);
  edges(context, laid, view, height, look);
  dots(context, seen, view, look);
  if (view.row >= LABELS_FROM_ROW) labels(context, seen, view, look);
}

function edges(context, laid, view, height, look) {
  const paths = { usual: new Path2D(), critical: new Path2D(), lineage: new Path2D() };
  const lineage = new Set(look.chosen?.ancestors());
  for (const node of laid.nodes) {
    if (!node.parent) continue;
    const [fromX, fromY] = place(view, node.parent);
    const [toX, toY] = place(view, node);
    if (Math.max(fromY, toY) < 0 || Math.min(fromY, toY) > height) continue;
    const kind = lineage.has(node) ? "lineage" : look.critical && node.data.critical && node.parent.data.critical ? "critical" : "usual";
    const middle = (fromX + toX) / 2;
    paths[kind].moveTo(fromX, fromY);
    paths[kind].bezierCurveTo(middle, fromY, middle, toY, toX, toY);
  }
  const stroke = (path, colour, lineWidth, alpha = 1) => {
    Object.assign(context, { strokeStyle: colour, lineWidth, globalAlpha: alpha });
    context.stroke(path);
  };
  stroke(paths.usual, look.palette.line, 1, view.row < 3 ? 0.5 : 1);
  stroke(paths.critical, look.palette.critical, 2.25);
  stroke(paths.lineage, look.palette.text, 1.75);
  context.globalAlpha = 1;
}

function dots(context, seen, view, look) {
  const factor = shrink(view);
  const byColour = grouped(seen, look.colour);
  for (const [colour, nodes] of byColour) {
    context.beginPath();
    for (const node of nodes) {
      const [x, y] = place(view, node);
      const radius = look.radius(node) * factor;
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, TAU);
    }
    context.fillStyle = colour;
    context.fill();
    if (factor >= 0.6) {
      Object.assign(context, { strokeStyle: look.palette.panel, lineWidth: 1 });
      context.stroke();
    }
  }
  if (look.chosen) ring(context, look.chosen, view, look);
}

function ring(context, node, view, look) {
  const [x, y] = place(view, node);
  context.beginPath();
  context.arc(x, y, look.radius(node) * shrink(view) + 3.5, 0, TAU);
  Object.assign(context, { strokeStyle: look.palette.text, lineWidth: 2 });
  context.stroke();
}

function labels(context, seen, view, look) {
  const factor = shrink(view);
  context.font = `12px ${look.palette.sans}`;
  context.textBaseline = "middle";
  const rows = grouped(seen, (node) => Math.round(node.row));
  for (const node of seen) {
    const [x, y] = place(view, node);
    const start = x + look.radius(node) * factor + 6;
    const room = (columnsFree(node, rows, view) * view.column) - (start - x) - 16;
    if (room < 40) continue;
    const text = cut(context, node.data.type, room);
    const ground = context.measureText(text).width;
    context.globalAlpha = 0.85;
    context.fillStyle = look.palette.panel;
    context.fillRect(start - 2, y - 8, ground + 4, 16);
    context.globalAlpha = 1;
    context.fillStyle = node === look.chosen ? look.palette.text : look.palette.muted;
    context.fillText(text, start, y);
  }
}

/** Return how many columns to the right of a node are free at its height. */
function columnsFree(node, rows, view) {
  const near = [-1, 0, 1].flatMap((by) => rows.get(Math.round(node.row) + by) ?? []);
  const ahead = near.filter((other) => other.column > node.column && Math.abs(other.row - node.row) * view.row < LABEL_HEIGHT);
  return ahead.reduce((least, other) => Math.min(least, other.column - node.column), Infinity);
}

/** Return text that is at most so wide. */
export function cut(context, text, room) {
  if (room === Infinity || context.measureText(text).width <= room) return text;
  const most = Math.max(1, Math.floor(text.length * room / context.measureText(text).width) - 1);
  return `${text.slice(0, most)}…`;
}

function grouped(nodes, keyOf) {
  const found = new Map();
  for (const node of nodes) {
    const key = keyOf(node);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(node);
  }
  return found;
}
