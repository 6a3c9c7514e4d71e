// Keeping a page fresh: it is asked for again, and the parts that changed take the place of the old ones.

let under = null;

/** Show the page as it is now. Parts in which somebody is at work stay as they are. */
export function refresh() {
  under ??= renew().finally(() => { under = null; });
  return under;
}

async function renew() {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live][id]")) {
    const other = fresh.getElementById(part.id);
    if (other && !isBusy(part) && differs(part, other)) {
      part.replaceChildren(...document.adoptNode(other).childNodes);
      part.dispatchEvent(new CustomEvent("renewed", { bubbles: true }));
    }
  }
}

const sources = new WeakMap();

function differs(part, other) {
  const text = other.innerHTML;
  const isNew = sources.get(part) !== text;
  sources.set(part, text);
  return isNew;
}

function isBusy(part) {
  return part.contains(document.activeElement) && document.activeElement !== part
    || part.querySelector("input[type=checkbox]:checked") !== null
    || (!getSelection().isCollapsed && part.contains(getSelection().anchorNode));
}
