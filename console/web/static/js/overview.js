// The overview's charts, which grow with each message of its stream.

import uPlot from "../vendor/uplot/uPlot.esm.js";
import { ask } from "./api.js";
import { money, short, span } from "./formats.js";
import { Courses } from "./spark.js";

const KEPT = 450;
const GAP_S = 60;
const SPEND_MS = 60_000;
const SPAN_STEPS = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000];
const points = [];
const courses = new Courses();
const charts = new Map();
let spentAt = -Infinity;

/** Take a message: what happened since the last one is added to the charts. */
export function heard(found) {
  const at = (point) => Object.fromEntries(found.point.map((name, place) => [name, point[place]]));
  const last = points.at(-1)?.at ?? 0;
  points.push(...found.points.map(at).filter((point) => point.at > last));
  points.splice(0, Math.max(0, points.length - KEPT));
  courses.take(found.points.map((point) => at(point).at), found.busiest);
  courses.forget(points[0]?.at ?? 0);
  draw();
  if (performance.now() - spentAt > SPEND_MS) drawSpend().catch(() => {});
}

const rate = (name, perSecond) => points.map((point, place) => {
  const before = points[place - 1];
  if (!before || point.at - before.at > GAP_S || point[name] < before[name]) return null;
  return (point[name] - before[name]) / (point.at - before.at) * perSecond;
});
const level = (name) => points.map((point) => point[name]);
const SERIES = {
  throughput: () => [rate("published", 1), rate("settled", 1)],
  backlog: () => [level("waiting"), level("running")],
  oldest: () => [level("oldest_s")],
  failures: () => [rate("failures", 60), level("dead")],
  workers: () => [level("workers")],
};

function draw() {
  const times = level("at");
  for (const [name, series] of Object.entries(SERIES)) show(name, [times, ...series()], name === "oldest" ? span : short);
  drawSparks();
}

function drawSparks() {
  if (points.length) courses.draw(points[0].at, points.at(-1).at, GAP_S);
}

async function drawSpend() {
  spentAt = performance.now();
  const { buckets } = await ask("GET", "/statistics/series?grain=hour&since=24h");
  const hour = 3600;
  const now = Math.floor(Date.now() / 1000 / hour) * hour;
  const times = Array.from({ length: 24 }, (_, place) => now - (23 - place) * hour);
  const spent = new Map(buckets.map((bucket) => [Date.parse(bucket.start) / 1000, bucket.cost_total]));
  show("spend", [times, times.map((time) => spent.get(time) ?? null)], money, true);
}

function show(name, data, write, bars = false) {
  const figure = document.querySelector(`[data-chart=${name}]`);
  if (!figure) return; // the bus could not be looked at when the page was made
  const plot = figure.querySelector(".plot");
  if (!charts.has(name)) charts.set(name, new uPlot(options(plot, data.length - 1, write, bars), data, plot));
  else charts.get(name).setData(data);
  figure.querySelectorAll("[data-value]").forEach((place, number) => {
    const values = data[number + 1];
    const hovered = charts.get(name).cursor.idx;
    place.textContent = bars && hovered === null ? "" : write(values[hovered ?? values.length - 1]);
  });
}

function options(plot, count, write, bars) {
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = { stroke: () => colour("--muted"), font: `11px ${colour("--sans")}`, ticks: { show: false } };
  const series = (number) => ({
    stroke: () => colour(`--series-${number}`), width: 1.5, points: { show: false }, spanGaps: false,
    ...(bars ? { paths: uPlot.paths.bars({ size: [0.7, 24] }), fill: () => colour(`--series-${number}`) } : {}),
  });
  return {
    width: plot.clientWidth, height: plot.clientHeight, legend: { show: false }, padding: [8, 26, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { x: { range: bars ? (_, low, high) => [low - 1800, high + 1800] : undefined }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, write === money ? 0.01 : 1) * 1.1] } },
    axes: [
      { ...axis, grid: { show: false }, space: 70, size: 24, values: (_, moments) => moments.map((moment) => clock(moment, moments)) },
      { ...axis, grid: { stroke: () => colour("--line"), width: 1 }, size: 46, space: 28, ...scaleOf(write) },
    ],
    series: [{}, ...Array.from({ length: count }, (_, number) => series(number + 1))],
    hooks: { setCursor: [(chart) => values(chart, write, bars)] },
  };
}

/** Where a scale has its lines, and how they are written: durations all in one unit. */
function scaleOf(write) {
  if (write !== span) return { values: (_, values) => values.map((value) => write(value)) };
  return { incrs: SPAN_STEPS, values: (_, values) => values.map((value) => span(value, values.at(-1))) };
}

/** Write a moment; with its seconds where moments are close. */
function clock(seconds, among) {
  return new Date(seconds * 1000).toISOString().slice(11, among.length > 1 && among[1] - among[0] < 60 ? 19 : 16);
}

function values(chart, write, bars) {
  const places = chart.root.closest("figure").querySelectorAll("[data-value]");
  places.forEach((place, number) => {
    const data = chart.data[number + 1];
    const at = chart.cursor.idx;
    place.textContent = bars && at === null ? "" : write(data[at ?? data.length - 1]);
  });
}

addEventListener("resize", () => {
  for (const chart of charts.values()) {
    const { clientWidth: width, clientHeight: height } = chart.root.parentElement;
    chart.setSize({ width, height });
  }
});
new MutationObserver(() => charts.forEach((chart) => chart.redraw(false, true))).observe(document.documentElement, { attributeFilter: ["data-theme"] });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => charts.forEach((chart) => chart.redraw(false, true)));
document.addEventListener("renewed", drawSparks);
if (document.querySelector("[data-chart=spend]")) drawSpend().catch(() => {});
