"""Webhooks to the address that the environment names, for the tests."""

from __future__ import annotations

import os

from events.bus import EventBus
from events.webhooks import Webhook, WebhookGone

bus = EventBus()
bus.subscribe(
    Webhook("Billing", os.environ["TEST_HOOK_URL"], os.environ["TEST_HOOK_SECRET"], timeout_s=2),
    ["QA_REPORT"],
    max_attempts=3,
    min_backoff=0.05,
    max_backoff=0.2,
    give_up_on=(WebhookGone,),
)
bus.subscribe(
    Webhook("Patient", os.environ["TEST_HOOK_URL"], os.environ["TEST_HOOK_SECRET"], timeout_s=2),
    ["USER_APPROVED"],
    max_attempts=3,
    min_backoff=2,
    jitter=0,
)
