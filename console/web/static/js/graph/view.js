// Where on a canvas the tree is: an origin, and how wide a column and how high a row is. Both scales are kept apart, so
// that five thousand rows fit as well as five.

const COLUMN = [0.02, 420];
const ROW = [0.02, 64];
const COMFORTABLE = { column: 230, row: 30 };
const MARGIN = { left: 26, right: 170, top: 26, bottom: 26 };
// Nearer to an edge than this a node that is chosen by keys is moved: never where the whole tree is seen.
const EDGE = { left: 20, right: 120, top: 20, bottom: 20 };

const within = (value, [least, most]) => Math.min(most, Math.max(least, value));

/** Return the view in which the whole tree is seen, in the middle, and the labels of its last column beside it. */
export function fitted(laid, width, height) {
  const free = width - MARGIN.left - Math.min(MARGIN.right, width * 0.45);
  const column = within(free / Math.max(1, laid.columns), [COLUMN[0], COMFORTABLE.column]);
  const row = within((height - MARGIN.top - MARGIN.bottom) / Math.max(1, laid.rows), [ROW[0], COMFORTABLE.row]);
  return { x: MARGIN.left + (free - column * laid.columns) / 2, y: (height - row * laid.rows) / 2, column, row };
}

/** Return a view zoomed around a point. */
export function zoomed(view, by, x, y) {
  const column = within(view.column * Math.sqrt(by), COLUMN);
  const row = within(view.row * by, ROW);
  return { x: x - (x - view.x) * column / view.column, y: y - (y - view.y) * row / view.row, column, row };
}

/** Return a view in which a node is not at an edge: the same if it is not there now. */
export function showing(view, node, width, height) {
  const [x, y] = place(view, node);
  const moved = { ...view };
  if (x < EDGE.left || x > width - Math.min(EDGE.right, width * 0.4)) moved.x += width / 2 - x;
  if (y < EDGE.top || y > height - EDGE.bottom) moved.y += height / 2 - y;
  return moved;
}

/** Return a node's place. */
export const place = (view, node) => [view.x + node.column * view.column, view.y + node.row * view.row];
