// The causation graph's page: what is shown of the tree, and what hands and keys do with it.

import { attempt } from "../dialog.js";
import { data, make } from "../dom.js";
import { follow, seldom } from "../live.js";
import { refresh } from "../refresh.js";
import { knows, t } from "../words.js";
import { tellOf } from "./chosen.js";
import { draw, shrink } from "./draw.js";
import { savePng, saveSvg } from "./export.js";
import { listen } from "./hand.js";
import { colouring, colours, sizing } from "./looks.js";
import { fetchTree } from "./tree.js";
import { fitted, place, showing, zoomed } from "./view.js";

const REFRESH_MS = 2000;
const STEP = 1.4;
const PAN = 60;
const stage = document.querySelector(".graph");
const canvas = stage.querySelector("canvas");
const aside = stage.querySelector(".graph-node");
const context = canvas.getContext("2d");
const by = (name) => stage.querySelector(`[data-by=${name}]`).value;
let laid = null;
let view = null;
let look = null;
let chosenId = stage.dataset.selected;
let isAsked = false;

function paint() {
  if (isAsked) return;
  isAsked = true;
  requestAnimationFrame(() => {
    isAsked = false;
    if (laid) draw(context, laid, view, canvas.clientWidth, canvas.clientHeight, { ...look, chosen: laid.byId.get(chosenId) });
  });
}

function dress() {
  const palette = colours();
  const colour = colouring(laid, by("colour"), palette);
  look = { palette, radius: sizing(laid, by("size")), colour: colour.of, critical: stage.querySelector("[data-critical]").checked };
  tellLegend(colour.legend);
  paint();
}

function tellLegend(legend) {
  let list = stage.querySelector(".graph-legend");
  if (!list) {
    list = make("p", { className: "graph-legend muted" });
    stage.querySelector(".graph-body").before(list);
  }
  list.hidden = !legend.length;
  list.replaceChildren(...legend.map(([colour, name]) => {
    const swatch = make("i");
    swatch.style.background = colour;
    return make("span", {}, swatch, data(knows(`state.${name}`) ? t(`state.${name}`) : name));
  }));
}

function stretch() {
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.clientHeight * scale);
  context.setTransform(scale, 0, 0, scale, 0, 0);
  paint();
}

function choose(node, isShown = false) {
  chosenId = node?.data.event_id ?? null;
  tellOf(aside, node);
  if (node && isShown) view = showing(view, node, canvas.clientWidth, canvas.clientHeight);
  paint();
}

function hit(x, y) {
  const factor = shrink(view);
  let nearest = null;
  let least = Infinity;
  for (const node of laid.nodes) {
    const [nodeX, nodeY] = place(view, node);
    const far = Math.hypot(nodeX - x, nodeY - y) - look.radius(node) * factor;
    if (far < least) [nearest, least] = [node, far];
  }
  return least <= 6 ? nearest : null;
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  view = zoomed(view, factor, x, y);
  paint();
}

function fit() {
  view = fitted(laid, canvas.clientWidth, canvas.clientHeight);
  paint();
}

function neighbour(key) {
  const now = laid.byId.get(chosenId);
  if (!now) return laid.root;
  if (key === "ArrowLeft") return now.parent;
  if (key === "ArrowRight") return now.children?.[0];
  const beside = laid.nodes.filter((node) => node.depth === now.depth && (key === "ArrowUp" ? node.row < now.row : node.row > now.row));
  return beside.reduce((best, node) => !best || Math.abs(node.row - now.row) < Math.abs(best.row - now.row) ? node : best, null);
}

const KEYS = {
  "+": () => zoom(STEP), "=": () => zoom(STEP), "-": () => zoom(1 / STEP), 0: fit,
  Enter: () => { if (chosenId) location.assign(`/event?${new URLSearchParams({ id: chosenId })}`); },
  Escape: () => choose(null),
};
const DOES = {
  in: () => zoom(STEP), out: () => zoom(1 / STEP), fit,
  png: () => savePng(laid, look, name()), svg: () => saveSvg(laid, look, name()),
};
const name = () => `causation-${stage.dataset.root.replace(/[^\w-]+/g, "_").slice(0, 60)}`;

async function load() {
  const isFirst = laid === null;
  const began = performance.now();
  laid = await fetchTree(stage.dataset.root);
  if (isFirst) {
    stage.hidden = false;
    stretch();
    fit();
  }
  dress();
  choose(laid.byId.get(chosenId));
  return performance.now() - began;
}

listen(canvas, {
  move: (x, y) => { view = { ...view, x: view.x + x, y: view.y + y }; paint(); },
  zoom,
  tap: (x, y) => choose(hit(x, y)),
  hover: (x, y) => canvas.classList.toggle("hits", laid !== null && hit(x, y) !== null),
});
canvas.addEventListener("dblclick", () => KEYS.Enter());
canvas.addEventListener("keydown", (pressed) => {
  if (pressed.ctrlKey || pressed.metaKey || pressed.altKey) return;
  if (pressed.shiftKey && pressed.key.startsWith("Arrow")) {
    const [x, y] = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] }[pressed.key];
    view = { ...view, x: view.x + x, y: view.y + y };
    paint();
  } else if (pressed.key.startsWith("Arrow")) {
    const next = neighbour(pressed.key);
    if (next) choose(next, true);
  } else if (KEYS[pressed.key]) KEYS[pressed.key]();
  else return;
  pressed.preventDefault();
});
stage.addEventListener("click", ({ target }) => DOES[target.closest("[data-do]")?.dataset.do]?.());
stage.addEventListener("change", dress);
new ResizeObserver(() => { if (laid) stretch(); }).observe(canvas);
new MutationObserver(() => { if (laid) dress(); }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (laid) dress(); });

attempt(async () => {
  const tookMs = await load();
  // A large tree is asked for less often than a small one.
  follow(() => stage.dataset.stream, seldom(Math.max(REFRESH_MS, 10 * tookMs), () => Promise.all([load(), refresh()])));
});
