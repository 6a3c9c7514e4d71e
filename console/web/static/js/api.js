// Asking the HTTP API. What it refuses is thrown with its own sentence.

import { knows, t } from "./words.js";

// The API's sentences are English: who reads another language is told first of what kind a refusal is.
const ITS_LANGUAGE = "en";

/** Return what an operation answers; null when it answers nothing. */
export async function ask(method, path, body) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  try {
    answer = await fetch(`/api/v1${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new Error(t("ask.unreachable"));
  }
  if (answer.status === 401) location.assign(`/login?to=${encodeURIComponent(location.pathname + location.search)}`);
  const found = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Error(refusal(answer.status, found.detail));
  return found;
}

function refusal(status, detail) {
  const isIts = document.documentElement.lang === ITS_LANGUAGE || !knows(`error.${status}`);
  return isIts ? detail : t("refused", { what: t(`error.${status}`) }) + detail;
}

/** Write a part of a path. */
export const part = (text) => encodeURIComponent(text);
