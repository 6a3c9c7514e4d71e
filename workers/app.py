"""For Dramatiq's own command: `EVENTBUS_APP=pipeline:bus dramatiq workers.app`.

Importing it loads the application that EVENTBUS_APP names and makes its broker Dramatiq's global
one; nothing connects before a worker boots, in each process after the fork. Dramatiq's supervisor
stops all its processes when one is killed: `eventbus worker` replaces the one. Its command ends with
2 when the application cannot be loaded and with 3 when a server refuses the workers, as ours.

Composition.
"""

from __future__ import annotations

import dramatiq

from events.backend import Backend
from events.errors import EventBusError
from events.settings import Settings
from workers.assembly import make_broker
from workers.loading import load_app

try:
    bus = load_app(Settings.from_env().app)
except EventBusError as error:
    raise ImportError(str(error)) from error  # what its command answers with the code 2


broker = make_broker(
    bus.settings, lambda: Backend(bus.settings, may_restore=True), bus.subscriptions, schedules=bus.schedules
)
dramatiq.set_broker(broker)
