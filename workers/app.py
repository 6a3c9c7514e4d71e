"""For Dramatiq's own command: `EVENTBUS_APP=pipeline:bus dramatiq workers.app`.

Importing it loads the application that EVENTBUS_APP names and makes its broker Dramatiq's global
one; nothing connects before a worker boots, in each process after the fork. Dramatiq's supervisor
stops all its processes when one is killed: `eventbus worker` replaces the one.

Composition.
"""

from __future__ import annotations

import dramatiq

from events.backend import Backend
from events.settings import Settings
from workers.assembly import make_broker
from workers.loading import load_app

bus = load_app(Settings.from_env().app)


def _connections():  # type: ignore[no-untyped-def]
    backend = Backend(bus.settings, may_restore=True)
    return backend.namespace, backend.registry


broker = make_broker(bus.settings, _connections, bus.subscriptions, schedules=bus.schedules)
dramatiq.set_broker(broker)
