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

async function* events(after) {
  // The stream ends when the connection does; it goes on after the last event that arrived.
  for (;;) {
    try {
      const url = `${base}/api/v1/events/stream?type=SCENE_WRITTEN`;
      const answer = await fetch(url, { headers: { ...headers, "last-event-id": after } });
      if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
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
      console.error(`again in a second: ${error.message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function publish(event) {
  for (;;) {
    const answer = await fetch(`${base}/api/v1/events`, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify(event),
    });
    if (answer.ok) return answer.json();
    if (answer.status !== 503) throw new Error(await answer.text());
    await new Promise((resolve) => setTimeout(resolve, 1000)); // a server is away: the id makes it safe to ask again
  }
}

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
