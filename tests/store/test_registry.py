"""The list of subscribers outlives Redis, and only an explicit removal shortens it."""

from __future__ import annotations

import contextlib
import threading

from store.archive import Archive
from store.registry import Registry


def test_saving_adds_types_and_replaces_options(engine):
    registry = Registry(engine, "test")
    registry.save("Writer", ["B", "A"], {"window": 1})
    registry.save("Writer", ["C", "A"], {"rate": None, "é": [1.5]})
    registry.save("Editor", [], {})
    Registry(engine, "another").save("Writer", ["X"], {})

    assert registry.all() == [("Editor", [], {}, {}), ("Writer", ["A", "B", "C"], {"rate": None, "é": [1.5]}, {})]


def test_code_says_what_a_new_row_begins_with_and_never_changes_it_again(engine):
    registry = Registry(engine, "test")

    begun = registry.save("Writer", ["A"], {}, {"state": "backfill", "cursor": "7"})
    assert begun.items() > {"state": "backfill", "cursor": "7"}.items()
    with registry.held("Writer") as row:
        row.steering = {"paused": "1"}
    assert registry.save("Writer", ["B"], {"window": 2}, {"state": "backfill", "cursor": "0"}) == {"paused": "1"}
    assert registry.all() == [("Writer", ["A", "B"], {"window": 2}, {"paused": "1"})]


def test_each_life_of_a_name_that_begins_with_a_back_fill_numbers_what_it_is_given_anew(engine):
    registry, another = Registry(engine, "test"), Registry(engine, "another")
    start = {"state": "backfill", "cursor": "0"}
    first = registry.save("Writer", ["A"], {}, start)["first_redelivery"]

    assert registry.save("Writer", ["A", "B"], {}, start)["first_redelivery"] == first
    registry.remove("Writer")
    assert "first_redelivery" not in registry.save("Writer", ["A"], {})
    registry.remove("Writer")
    second = registry.save("Writer", ["A"], {}, start)["first_redelivery"]

    assert int(second) - int(first) == int(first) == 10_000
    assert another.save("Writer", ["A"], {}, start)["first_redelivery"] == first
    assert Archive(engine, "test").highest_position() == 0, "the count of lives is no position"


def test_a_held_row_is_written_at_the_end_removed_when_asked_and_left_alone_after_an_error(engine):
    registry = Registry(engine, "test")
    registry.save("Writer", ["A"], {}, {"paused": "1"})

    with contextlib.suppress(ZeroDivisionError), registry.held("Writer") as row:
        row.steering.clear()
        row.removed = True
        raise ZeroDivisionError
    with registry.held("Editor") as row:
        assert row.is_new
        row.steering["set_rate"] = "2.0"
    assert [(row.subscriber, row.steering) for row in registry.all()] == [
        ("Editor", {"set_rate": "2.0"}),
        ("Writer", {"paused": "1"}),
    ]
    with registry.held("Writer") as row:
        row.removed = not row.is_new
    assert [row.subscriber for row in registry.all()] == ["Editor"]


def test_two_who_hold_a_row_take_turns(engine, url, open_at):
    registries = [Registry(engine, "test"), Registry(open_at(url), "test")]
    registries[0].save("Writer", ["A"], {})

    def count(registry):
        for _ in range(20):
            with registry.held("Writer") as row:
                row.steering["n"] = str(int(row.steering.get("n", "0")) + 1)

    threads = [threading.Thread(target=count, args=(registry,)) for registry in registries]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]

    assert registries[0].all()[0].steering == {"n": "40"}


def test_removing_takes_types_and_with_the_last_one_the_subscriber(engine):
    registry = Registry(engine, "test")
    registry.save("Writer", ["A", "B"], {"window": 1})
    registry.save("Editor", ["A"], {})

    registry.remove("Writer", ["A", "never"])
    assert registry.all() == [("Editor", ["A"], {}, {}), ("Writer", ["B"], {"window": 1}, {})]
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
    ((_, types, _, _),) = Registry(engine, "test").all()
    assert len(types) == 30
