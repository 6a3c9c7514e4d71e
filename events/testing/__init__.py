"""Testing agents: run them in the test's process until nothing moves, on real servers, and see what was caused.

    async with TestBus() as bus:
        bus.subscribe(ScriptWriter(), [EventType.PROJECT_CREATED])
        await bus.publish(event)
        await bus.run_until_idle()
        assert [one.type for one in bus.caused_by(event)] == [EventType.SCENE_WRITTEN]

It delivers by the engine that `start_consuming` runs. With pytest, the fixture `event_bus_kit` is such a bus.
`crash_test` tells whether a handler is idempotent, by killing it. docs/testing_agents.md says what this promises.

Composition: the public door of this package; nothing else of it is to be built on.
"""

from __future__ import annotations

from events.testing.bus import TestBus
from events.testing.crash import crash_test, crash_test_async
from events.testing.doors import Killed, Point
from events.testing.report import CrashReport, Tried
from events.testing.results import Delivered

__all__ = ["CrashReport", "Delivered", "Killed", "Point", "TestBus", "Tried", "crash_test", "crash_test_async"]
