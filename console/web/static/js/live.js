// The switch *Live*: opens a stream while the page is looked at, and closes it when it is not. A browser gives
// all pages of a site few connections together, so that hidden ones must not hold any.

/**
 * Follow a stream, with the switch of the page.
 * @param address of the stream; asked for at each opening, so that it may begin where the last one ended.
 * @param hear is called with each message.
 * @param isOn whether it begins by itself.
 */
export function follow(address, hear, isOn = true) {
  const toggle = document.querySelector("[data-live-switch]");
  let wanted = isOn;
  let source = null;
  const settle = () => {
    const open = wanted && !document.hidden;
    if (open && !source) {
      source = new EventSource(address());
      source.onmessage = (message) => hear(JSON.parse(message.data), message.lastEventId);
      source.onopen = () => toggle?.removeAttribute("data-cut");
      source.onerror = () => toggle?.setAttribute("data-cut", "");
    } else if (!open && source) {
      source.close();
      source = null;
    }
    toggle?.setAttribute("aria-pressed", String(wanted));
  };
  if (toggle) {
    toggle.hidden = false;
    toggle.addEventListener("click", () => { wanted = !wanted; settle(); });
  }
  document.addEventListener("visibilitychange", settle);
  addEventListener("pagehide", () => source?.close());
  settle();
}

/** Return a function that does something soon, and at most once in so many milliseconds. */
export function seldom(milliseconds, call) {
  let last = -Infinity;
  let timer = null;
  return () => {
    timer ??= setTimeout(async () => {
      timer = null;
      await call();
      last = performance.now();
    }, Math.max(0, last + milliseconds - performance.now()));
  };
}
