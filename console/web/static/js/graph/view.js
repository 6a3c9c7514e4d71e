// Where on a canvas the tree is: an origin, and how wide a column and how high a row is. Both scales are kept apart, so
// that five thousand rows fit as well as five.

const COLUMN = [28, 420];
const ROW = [0.02, 64];
const COMFORTABLE = { column: 230, row: 30 };
const MARGIN = { left: 26, right: 170, top: 26, bottom: 26 };

const within = (value, [least, most]) => Math.min(most, Math.max(least, value));

/** Return the view in which the whole tree is seen. */
export function fitted(laid, width, height) {
  const right = Math.min(MARGIN.right, width * 0.3);
  const column = within((width - MARGIN.left - right) / Math.max(1, laid.columns), [COLUMN[0], COMFORTABLE.column]);
  const row = within((height - MARGIN.top - MARGIN.bottom) / Math.max(1, laid.rows), [ROW[0], COMFORTABLE.row]);
  return { x: MARGIN.left, y: (height - row * laid.rows) / 2, column, row };
}

/** Return a view zoomed around a point. */
export function zoomed(view, by, x, y) {
  const column = within(view.column * Math.sqrt(by), COLUMN);
  const row = within(view.row * by, ROW);
  return { x: x - (x - view.x) * column / view.column, y: y - (y - view.y) * row / view.row, column, row };
}

/** Return a view in which a node is at least so far from the edges. */
export function showing(view, node, width, height) {
  const [x, y] = place(view, node);
  const moved = { ...view };
  if (x < 30 || x > width - 120) moved.x += width / 2 - x;
  if (y < 20 || y > height - 20) moved.y += height / 2 - y;
  return moved;
}

/** Return a node's place. */
export const place = (view, node) => [view.x + node.column * view.column, view.y + node.row * view.row];
