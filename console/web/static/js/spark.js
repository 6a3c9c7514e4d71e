// Small lines in a table's rows: what each subscriber had before it, over the same minutes as the charts. Drawn for the
// busiest, of whom alone the stream tells; a line is broken where its subscriber was not among them.

const WIDTH = 100;
const HEIGHT = 20;
// What is less than this does not fill a line's height: one delivery is no mountain.
const LEAST = 10;

/** The courses of subscribers, by name: each an array of {at, lag, oldest_s}, the newest last. */
export class Courses {
  #courses = new Map();

  /** Take what a message tells of moments, in their order; those that are known already are passed over. */
  take(moments, busiest) {
    for (const [name, { lag, oldest_s: oldest }] of Object.entries(busiest)) {
      const course = this.#courses.get(name) ?? [];
      const last = course.at(-1)?.at ?? 0;
      moments.forEach((at, place) => {
        if (at > last && lag[place] !== null) course.push({ at, lag: lag[place], oldest_s: oldest[place] ?? 0 });
      });
      this.#courses.set(name, course);
    }
  }

  /** Forget what was before a moment, and who has nothing since. */
  forget(first) {
    for (const [name, course] of this.#courses) {
      course.splice(0, Math.max(0, course.findIndex(({ at }) => at >= first)));
      if (!course.length || course.at(-1).at < first) this.#courses.delete(name);
    }
  }

  /** Draw every line of the page. */
  draw(first, last, gap) {
    for (const spark of document.querySelectorAll("[data-spark]")) {
      const { spark: what, subscriber } = spark.dataset;
      const course = this.#courses.get(subscriber) ?? [];
      if (!course.length && !spark.firstElementChild.hasAttribute("d")) continue;
      const most = Math.max(LEAST, ...course.map((point) => point[what]));
      spark.classList.toggle("still", course.every((point) => !point[what]));
      const place = (point) => [(point.at - first) / Math.max(1, last - first) * WIDTH, HEIGHT - 1 - point[what] / most * (HEIGHT - 2)];
      const [line, area] = spark.children;
      const stretches = unbroken(course, gap).map((stretch) => stretch.map((point) => place(point).map((one) => one.toFixed(1)).join(" ")));
      line.setAttribute("d", stretches.map((stretch) => `M${stretch.join("L")}`).join(""));
      area.setAttribute("d", stretches.map((stretch) => `M${stretch[0].split(" ")[0]} ${HEIGHT}L${stretch.join("L")}L${stretch.at(-1).split(" ")[0]} ${HEIGHT}Z`).join(""));
    }
  }
}

function unbroken(course, gap) {
  const stretches = [];
  course.forEach((point, place) => {
    if (!place || point.at - course[place - 1].at > gap) stretches.push([]);
    stretches.at(-1).push(point);
  });
  return stretches;
}
