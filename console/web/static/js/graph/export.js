// The whole graph as a picture: PNG by drawing it on a canvas of its own, SVG by writing the same shapes.

import { draw } from "./draw.js";
import { place } from "./view.js";

const ROW = 24;
const COLUMN = 220;
const LAST = 200;
const MARGIN = 28;
const MOST_PIXELS = 8192;
const SVG = "http://www.w3.org/2000/svg";

const view = (row, column) => ({ x: MARGIN, y: MARGIN, row, column });
const extent = (laid, one) => [2 * MARGIN + laid.columns * one.column + LAST, 2 * MARGIN + laid.rows * one.row];

/** Save the graph as PNG, on the page's ground. */
export function savePng(laid, look, name) {
  const row = Math.min(ROW, (MOST_PIXELS - 2 * MARGIN) / Math.max(1, laid.rows));
  const one = view(row, Math.min(COLUMN, (MOST_PIXELS - LAST - 2 * MARGIN) / Math.max(1, laid.columns)));
  const [width, height] = extent(laid, one);
  const scale = Math.min(2, MOST_PIXELS / width, MOST_PIXELS / height);
  const canvas = document.createElement("canvas");
  canvas.width = Math.ceil(width * scale);
  canvas.height = Math.ceil(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  draw(context, laid, one, width, height, { ...look, chosen: null });
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = look.palette.panel;
  context.fillRect(0, 0, width, height);
  canvas.toBlob((blob) => save(blob, `${name}.png`));
}

/** Save the graph as SVG: every event with its label and, on hovering, its id. */
export function saveSvg(laid, look, name) {
  const one = view(ROW, COLUMN);
  const [width, height] = extent(laid, one);
  const svg = shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "font-family": "sans-serif", "font-size": 12 });
  svg.append(shape("rect", { width, height, fill: look.palette.panel }));
  for (const node of laid.nodes.filter((each) => each.parent)) svg.append(edge(node, one, look));
  for (const node of laid.nodes) svg.append(...dot(node, one, look));
  const text = `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(svg)}`;
  save(new Blob([text], { type: "image/svg+xml" }), `${name}.svg`);
}

function edge(node, one, look) {
  const [fromX, fromY] = place(one, node.parent);
  const [toX, toY] = place(one, node);
  const middle = (fromX + toX) / 2;
  const isCritical = look.critical && node.data.critical && node.parent.data.critical;
  return shape("path", {
    d: `M${fromX} ${fromY}C${middle} ${fromY} ${middle} ${toY} ${toX} ${toY}`, fill: "none",
    stroke: isCritical ? look.palette.critical : look.palette.line, "stroke-width": isCritical ? 2.25 : 1,
  });
}

function dot(node, one, look) {
  const [x, y] = place(one, node);
  const circle = shape("circle", { cx: x, cy: y, r: look.radius(node), fill: look.colour(node) });
  const title = shape("title");
  title.textContent = node.data.event_id;
  circle.append(title);
  const label = shape("text", { x: x + look.radius(node) + 6, y: y + 4, fill: look.palette.text });
  label.textContent = node.data.type;
  return [circle, label];
}

function shape(name, attributes = {}) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
