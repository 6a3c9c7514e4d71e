// Pointer and wheel on the canvas: one finger or the mouse moves, two fingers or the wheel zoom, a tap chooses.

const TAP = 5;

/**
 * Listen to a canvas.
 * @param acts `move(x, y)`, `zoom(by, x, y)`, `tap(x, y)`, `hover(x, y)`.
 */
export function listen(canvas, acts) {
  const down = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => {
    down.set(event.pointerId, at(canvas, event));
    canvas.setPointerCapture(event.pointerId);
    if (down.size === 1) moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(canvas, event);
    const before = down.get(event.pointerId);
    if (!before) { acts.hover(...now); return; }
    const other = [...down].find(([id]) => id !== event.pointerId)?.[1];
    if (other) acts.zoom(distance(now, other) / Math.max(1, distance(before, other)), ...other);
    else acts.move(now[0] - before[0], now[1] - before[1]);
    moved += distance(now, before);
    canvas.classList.toggle("drags", moved > TAP);
    down.set(event.pointerId, now);
  });
  const up = (event) => {
    if (down.delete(event.pointerId) && event.type === "pointerup" && moved <= TAP) acts.tap(...at(canvas, event));
    canvas.classList.remove("drags");
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    acts.zoom(Math.exp(-event.deltaY * lines * 0.0016), ...at(canvas, event));
  }, { passive: false });
}

function at(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

const distance = ([x, y], [otherX, otherY]) => Math.hypot(x - otherX, y - otherY);
