// A step of a pipeline in Node, over HTTP alone: it follows SCENE_WRITTEN and publishes VOICE_RENDERED for each.
//
//   EVENTBUS_URL=http://localhost:8080 EVENTBUS_WEB_TOKEN=... node voice.mjs [HOW_MANY]
//
// It keeps its place in cursor.txt. Killed anywhere, it goes on there: an event may be handled again, and its answer
// has the same id as before, so that it is published once.

import { existsSync, readFileSync, writeFileSync } from "node:fs";

const base = process.env.EVENTBUS_URL ?? "http://localhost:8080";
const token = process.env.EVENTBUS_WEB_TOKEN;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const most = Number(process.argv[2] ?? Infinity);
const place = "cursor.txt";

const mayPass = new Set([408, 429, 502, 503, 504]);

// Asks until it is answered well: a server that is away, or a connection that ends, is waited for. What is published has
// an id, so asking again is safe. A refusal, of a token or of an event, does not pass: it ends the program.
async function ask(path, request, read) {
  for (;;) {
    let said, wait = 1;
    try {
      const answer = await fetch(`${base}/api/v1${path}`, { ...request, headers: { ...headers, ...request.headers } });
      if (answer.ok) return await read(answer);
      said = `${answer.status} ${await answer.text()}`;
      if (!mayPass.has(answer.status)) end(`${path} was refused: ${said}`);
      wait = Number(answer.headers.get("retry-after")) || 1;
    } catch (error) {
      said = error.cause?.message ?? error.message;
    }
    await pause(wait, said);
  }
}

async function pause(seconds, why) {
  console.error(`again in ${seconds} s: ${why}`);
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}

function end(why) {
  console.error(why);
  process.exit(1);
}

async function* events(after) {
  // The stream ends when the connection does; it goes on after the last event that arrived.
  for (;;) {
    const path = "/events/stream?type=SCENE_WRITTEN";
    const answer = await ask(path, { headers: { "last-event-id": after } }, (answer) => answer);
    let why = "the stream ended";
    try {
      let text = "";
      for await (const bytes of answer.body.pipeThrough(new TextDecoderStream())) {
        text += bytes;
        const messages = text.split("\n\n");
        text = messages.pop();
        for (const message of messages) {
          const line = (name) => message.match(new RegExp(`^${name}: (.*)$`, "m"))?.[1];
          after = line("id") ?? after;
          if (line("data")) yield JSON.parse(line("data"));
        }
      }
    } catch (error) {
      why = error.cause?.message ?? error.message;
    }
    await pause(1, why);
  }
}

const publish = (event) =>
  ask(
    "/events",
    { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(event) },
    (answer) => answer.json(),
  );

let count = 0;
for await (const scene of events(existsSync(place) ? readFileSync(place, "utf8") : "0")) {
  const started = performance.now();
  const words = JSON.stringify(scene.payload).split(/\s+/).length;
  const receipt = await publish({
    event_id: `voice-${scene.event_id}`,
    project_id: scene.project_id,
    type: "VOICE_RENDERED",
    actor: "VoiceGen",
    causation_id: scene.event_id,
    payload: { seconds: words * 0.4 },
    metadata: { cost: 0.001 * words, latency_ms: performance.now() - started },
  });
  writeFileSync(place, String(scene.position));
  console.log(`${scene.event_id} -> ${receipt.event_id}${receipt.is_new ? "" : " (was there)"}`);
  if (++count >= most) process.exit(0);
}
