// How large a node is drawn, and in which colour.

const LEAST = 3.2;
const MOST = 10;
const HUES = [230, 28, 158, 292, 8, 195, 62, 330, 110, 260];

const measures = {
  same: () => 0,
  cost: (data) => data.cost ?? 0,
  latency: (data) => data.latency_ms ?? 0,
  subtree: (data) => data.cost_total,
};

/** Return the colours of the page, as they are now. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    text: read("--text"), muted: read("--muted"), line: read("--line-strong"), panel: read("--panel"), accent: read("--accent"),
    good: read("--good"), wait: read("--wait-mark"), bad: read("--bad"), critical: read("--series-2"), sans: read("--sans"),
    isDark: style.colorScheme.includes("dark"),
  };
}

/** Return a function that tells a node's radius in pixels, before zoom. */
export function sizing(laid, by) {
  const measure = measures[by];
  const greatest = laid.nodes.reduce((most, node) => Math.max(most, measure(node.data)), 0);
  return (node) => greatest ? LEAST + (MOST - LEAST) * Math.sqrt(measure(node.data) / greatest) : LEAST + 1.5;
}

/** Tell a node's state: what became of its deliveries. */
export const stateOf = ({ dead, waiting }) => dead ? "dead" : waiting ? "waiting" : "done";

/** Return a function that tells a node's colour, and the legend: pairs of a colour and a name. */
export function colouring(laid, by, palette) {
  if (by === "state") {
    const of = { dead: palette.bad, waiting: palette.wait, done: palette.accent };
    return { of: (node) => of[stateOf(node.data)], legend: Object.entries(of).reverse().map(([state, colour]) => [colour, state]) };
  }
  if (by === "actor") {
    const actors = [...new Set(laid.nodes.map((node) => node.data.actor))];
    const hue = (actor) => `hsl(${HUES[actors.indexOf(actor) % HUES.length]} ${palette.isDark ? "62% 68%" : "52% 46%"})`;
    const of = new Map(actors.map((actor) => [actor, hue(actor)]));
    return { of: (node) => of.get(node.data.actor), legend: actors.slice(0, HUES.length).map((actor) => [of.get(actor), actor]) };
  }
  const measure = measures[by];
  const greatest = laid.nodes.reduce((most, node) => Math.max(most, measure(node.data)), 0) || 1;
  const shades = Array.from({ length: 9 }, (_, step) => mixed(palette, step / 8));
  return { of: (node) => shades[Math.round(8 * Math.sqrt(measure(node.data) / greatest))], legend: [] };
}

function mixed({ isDark }, share) {
  return isDark ? `hsl(232 ${20 + 75 * share}% ${38 + 38 * share}%)` : `hsl(232 ${18 + 50 * share}% ${80 - 42 * share}%)`;
}
