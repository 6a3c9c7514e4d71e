"""The list of subscribers outlives Redis, and only an explicit removal shortens it."""

from __future__ import annotations

import threading

from store.registry import Registry


def test_saving_adds_types_and_replaces_options(engine):
    registry = Registry(engine, "test")
    registry.save("Writer", ["B", "A"], {"window": 1})
    registry.save("Writer", ["C", "A"], {"rate": None, "é": [1.5]})
    registry.save("Editor", [], {})
    Registry(engine, "another").save("Writer", ["X"], {})

    assert registry.all() == [("Editor", [], {}), ("Writer", ["A", "B", "C"], {"rate": None, "é": [1.5]})]


def test_removing_takes_types_and_with_the_last_one_the_subscriber(engine):
    registry = Registry(engine, "test")
    registry.save("Writer", ["A", "B"], {"window": 1})
    registry.save("Editor", ["A"], {})

    registry.remove("Writer", ["A", "never"])
    assert registry.all() == [("Editor", ["A"], {}), ("Writer", ["B"], {"window": 1})]
    registry.remove("Writer", ["B"])
    registry.remove("Editor")
    registry.remove("Nobody")
    assert registry.all() == []


def test_processes_that_save_at_once_lose_no_type(engine, url, open_at):
    failures = []

    def run(name):
        try:
            registry = Registry(open_at(url), "test")
            for n in range(10):
                registry.save("Writer", [f"{name}{n}"], {})
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(name,)) for name in "ABC"]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert failures == []
    ((_, types, _),) = Registry(engine, "test").all()
    assert len(types) == 30
