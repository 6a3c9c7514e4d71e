"""Writes docs/reference/*.md from the docstrings of the public names and from the commands' own options.

    python docs/reference.py            write the pages
    python docs/reference.py --check    write nothing; exit with 1 and name the pages that are not up to date

It imports the packages and connects to nothing. `PAGES` says which name stands where; how a docstring becomes
Markdown is `reference_text.py`'s affair, how the command line does `reference_cli.py`'s. A name without a
docstring, or a field that no docstring explains, is an error: the page would have a hole.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference_cli  # noqa: E402
import reference_text  # noqa: E402

COMMAND = "python docs/reference.py"
FOLDER = HERE / "reference"


@dataclass(frozen=True, slots=True)
class Page:
    """One page: its title, what it is about, and its names as `module: [names]`, in the reader's order."""

    title: str
    about: str
    names: dict[str, list[str]] = field(default_factory=dict)


PAGES = {
    "bus.md": Page(
        "The bus",
        "Publishing, consuming, asking. `from events import EventBus, publish`",
        {
            "events.bus": ["EventBus"],
            "events.default": ["publish"],
            "events.factory": ["EventBusFactory", "EventBusManager"],
            "events.publisher": ["Receipt"],
            "events.due": ["Scheduled"],
        },
    ),
    "events.md": Page(
        "Events",
        "What is published, and what it becomes once it has a place in history. `from events import Event, EventType`",
        {
            "events.event": ["Event", "new_event_id"],
            "events.types": ["EventType"],
            "events.records": ["RecordedEvent"],
            "events.encoding": ["encode", "decode", "digest"],
        },
    ),
    "subscribers.md": Page(
        "Subscribers",
        "Agents, their options, what handlers may raise. `from events import EventSubscriber, Retry, Discard`",
        {
            "events.subscriber": ["EventSubscriber", "CallbackSubscriber"],
            "events.subscriptions": ["SubscriberOptions"],
            "events.joining": ["Join", "Joined"],
            "events.errors": ["Retry", "Discard", "TimeLimitExceeded"],
            "events.context": ["Handling"],
            "events.webhooks": ["Webhook", "WebhookFailed", "WebhookGone", "sign", "verify"],
        },
    ),
    "answers.md": Page(
        "Answers",
        "The values that questions are answered with: causation trees, deliveries, attempts, dead letters, numbers.",
        {
            "store.tree": ["CausationTree", "TreeEvent", "MissingLink"],
            "events.records": ["AttemptState", "Outcome", "DeadLetter"],
            "store.numbers": [
                "TypeStatistics",
                "ActorStatistics",
                "ProjectNumbers",
                "ProjectStatistics",
                "BucketStatistics",
                "DeliveryNumbers",
                "DeliveryStatistics",
            ],
        },
    ),
    "store.md": Page(
        "The store",
        "SQL: what is kept, shared state, outbox and inbox. [Statistics](../statistics.md) and "
        "[retention](../retention.md) have pages of their own.",
        {
            "store.persistence": ["EventPersistence"],
            "store.blackboard": ["BlackboardFactory", "Blackboard"],
            "store.state": ["State", "Entry"],
            "store.pointers": ["Pointer"],
            "store.statistics": ["Statistics"],
            "store.outbox": ["add"],
            "store.inbox": ["once", "forget"],
        },
    ),
    "testing.md": Page(
        "Testing",
        "What `events.testing` offers; [Testing your agents](../testing_agents.md) says what it promises.",
        {
            "events.testing.bus": ["TestBus"],
            "events.testing.results": ["Delivered"],
            "events.testing.crash": ["crash_test", "crash_test_async"],
            "events.testing.report": ["CrashReport", "Tried"],
            "events.testing_pytest": ["event_bus_kit", "event_bus_app", "event_bus_settings"],
        },
    ),
}


def pages() -> Iterator[tuple[str, str]]:
    """Yield the name and the text of every page."""
    for name, page in PAGES.items():
        entries = [
            (module, getattr(importlib.import_module(module), public))
            for module, names in page.names.items()
            for public in names
        ]
        yield name, _page(page.title, page.about, reference_text.entries(entries))
    yield "settings.md", _page(*reference_text.settings_page())
    yield "errors.md", _page(*reference_text.errors_page())
    yield "cli.md", _page(*reference_cli.page())


def stale(folder: Path = FOLDER) -> list[str]:
    """Name the pages of a folder that are missing, not up to date, or of no name any more."""
    wanted = dict(pages())
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.md")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path = FOLDER) -> None:
    """Write every page, and remove those that nobody wants any more."""
    folder.mkdir(exist_ok=True)
    wanted = dict(pages())
    for path in folder.glob("*.md"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text, encoding="utf-8")


def _page(title: str, about: str, body: str) -> str:
    note = f"<!-- Made by `{COMMAND}` from the docstrings: change those, and run it. -->"
    return f"{note}\n\n# {title}\n\n{about}\n\n{body.strip()}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        if names := stale():
            sys.exit(f"Not up to date in docs/reference: {', '.join(names)}. Run `{COMMAND}`.")
    elif sys.argv[1:]:
        sys.exit((__doc__ or "").partition("\n\n")[2].partition("\n\n")[0])
    else:
        write()
