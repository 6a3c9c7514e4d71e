// How values are written, as on the server (console/wording.py).

export const NOTHING = "–";

/** Write an amount: two to four places, six below a cent. */
export function money(amount, currency) {
  if (typeof amount !== "number") return NOTHING;
  const text = amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: amount < 0.01 ? 6 : 4 });
  if (typeof currency !== "string" || !currency || currency === "USD") return `$${text}`;
  return `${text} ${currency.length > 8 ? `${currency.slice(0, 7)}…` : currency}`;
}

/** Write sums in several currencies: they are not added up. */
export function sums(byCurrency) {
  const parts = Object.entries(byCurrency ?? {}).map(([currency, amount]) => money(amount, currency));
  return parts.join(" + ") || NOTHING;
}

/** Write a duration given in milliseconds with the unit that suits it. */
export function duration(ms) {
  if (typeof ms !== "number") return NOTHING;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  if (ms < 120_000) return `${(ms / 1000).toFixed(1)} s`;
  const minutes = Math.floor(Math.round(ms / 1000) / 60);
  if (minutes < 120) return `${minutes} min ${Math.round(ms / 1000) % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Write a duration given in seconds for an axis or a legend, coarsely, with the unit that suits `among`. */
export function span(seconds, among = seconds) {
  if (typeof seconds !== "number") return NOTHING;
  if (among < 120) return `${+seconds.toPrecision(3)} s`;
  if (among < 7200) return `${+(seconds / 60).toPrecision(2)} min`;
  return among < 172_800 ? `${+(seconds / 3600).toPrecision(2)} h` : `${+(seconds / 86_400).toPrecision(2)} d`;
}

/** Write how long ago a moment was, coarsely. */
export function age(moment, now = Date.now()) {
  const passed = Math.max(0, Math.floor((now - moment) / 1000));
  if (passed < 60) return `${passed} s`;
  if (passed < 3600) return `${Math.floor(passed / 60)} min`;
  return passed < 172_800 ? `${Math.floor(passed / 3600)} h` : `${Math.floor(passed / 86_400)} d`;
}

/** Write a moment in UTC to the millisecond. */
export const exact = (iso) => new Date(iso).toISOString().slice(0, 23).replace("T", " ");

/** Write a number for an axis or a legend. */
export function short(value) {
  if (value === null || value === undefined) return NOTHING;
  if (Math.abs(value) >= 1e6) return `${+(value / 1e6).toPrecision(3)}M`;
  if (Math.abs(value) >= 1e4) return `${+(value / 1e3).toPrecision(3)}k`;
  return `${+value.toPrecision(3)}`;
}
