// A project's timeline: zoomed by its buttons, all lanes together.

const MOST = 32;
let zoom = 1;

function settle() {
  const width = document.querySelector("[data-width]");
  if (width) width.style.width = zoom === 1 ? "" : `${zoom * 100}%`;
}

for (const bar of document.querySelectorAll("[data-zoom]")) {
  bar.hidden = false;
  bar.addEventListener("click", ({ target }) => {
    const by = Number(target.closest("[data-zoom-by]")?.dataset.zoomBy);
    if (!by) return;
    const plot = document.querySelector(".lane-plot");
    const middle = (plot.scrollLeft + plot.clientWidth / 2) / plot.scrollWidth;
    zoom = Math.min(MOST, Math.max(1, zoom * by));
    settle();
    plot.scrollLeft = middle * plot.scrollWidth - plot.clientWidth / 2;
  });
}
document.addEventListener("renewed", settle);
