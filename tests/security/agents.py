"""An application whose handlers return, fail, hang on to what they were given, and send it elsewhere."""

from __future__ import annotations

import os

from events.bus import EventBus
from events.event import Event
from events.webhooks import Webhook
from tests.security.planted import HOOK_KEY, HOOK_SECRET

bus = EventBus()
HOOK_URL = "TEST_HOOK_URL"
"""Names the variable with the address of a webhook, its password in it."""


@bus.subscriber("Painter", ["SCENE_WRITTEN"], max_attempts=2, min_backoff=0.05, max_backoff=0.1)
async def paint(event: Event) -> Event:
    if event.payload.get("fails"):
        raise RuntimeError("the brush broke")
    return event.caused("IMAGE_GENERATED", payload=event.payload, cost=0.1)


@bus.subscriber("Critic", ["SCENE_WRITTEN"], max_attempts=1)
def judge(event: Event) -> object:
    return event.payload if event.payload.get("fails") else None


if HOOK_URL in os.environ:
    hook = Webhook("Hook", os.environ[HOOK_URL], HOOK_SECRET, timeout_s=5, headers={"x-api-key": HOOK_KEY})
    bus.subscribe(hook, ["QA_REPORT"], max_attempts=2, min_backoff=0.05, max_backoff=0.1)
