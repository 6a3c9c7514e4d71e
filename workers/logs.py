"""What the log lines of a process look like, set up in one place: objects for machines, or lines for people.

    json    one JSON object a line: time, level, logger, message, pid; the fields of the delivery that it is about;
            exception, with its traceback
    text    2026-11-26 09:11:28,123 WARNING [4711] eventbus.worker: message
    colour  the same, on a terminal

A record is about a delivery when it was logged with `extra=about(...)` (`workers.about`), or inside its handler. What
is logged is said elsewhere; nothing is made of a record before it is written.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, get_args

from events.context import handling
from workers.about import handled

Style = Literal["json", "text", "colour"]
STYLES: tuple[str, ...] = get_args(Style)

_LINE = "%(asctime)s %(levelname)-7s [%(process)d] %(name)s: %(message)s"
# What these say at `info` is about their own inside, and some of it once for each delivery.
_CHATTY = ("alembic", "asyncio", "dramatiq", "httpcore", "httpx", "workers.actors")
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def set_up(level: str, style: Style, label: Callable[[logging.Formatter], logging.Formatter] | None = None) -> None:
    """Send this process's logs to stderr, those of exceptions that nobody caught and of warnings too.

    Args:
        level: the lowest that is written. label: called with what makes the lines; returns what labels them.
    """
    handler = logging.StreamHandler(sys.stderr)
    lines = formatter(style, sys.stderr)
    handler.setFormatter(label(lines) if label else lines)
    logging.basicConfig(level=level.upper(), handlers=[handler])
    for chatty in _CHATTY:
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    if style == "json":
        sys.excepthook = _uncaught
        threading.excepthook = _uncaught_in_thread


def formatter(style: Style, stream: TextIO) -> logging.Formatter:
    """Return what makes lines of a style."""
    if style == "json":
        return JsonLines(is_ascii=(stream.encoding or "").lower().replace("-", "") != "utf8")
    return _Coloured(_LINE) if style == "colour" else logging.Formatter(_LINE)


class JsonLines(logging.Formatter):
    """Makes a JSON object of a record, without a line break.

    Args:
        is_ascii: the stream takes no other letters.
    """

    def __init__(self, *, is_ascii: bool = False) -> None:
        super().__init__()
        self._encode = json.JSONEncoder(ensure_ascii=is_ascii, allow_nan=False, default=str).encode

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **_of_handler(),
            **{name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD},
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = "".join(traceback.format_exception(record.exc_info[1]))
        elif record.stack_info:
            line["stack"] = record.stack_info
        try:
            return self._encode(line)
        except (TypeError, ValueError, RecursionError):  # what an application gave as `extra`
            return self._encode({name: str(value) for name, value in line.items()})


class _Coloured(logging.Formatter):
    """Colours the level; what would be obeyed by a terminal is written as an escape."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if not text.isprintable():
            text = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
        code = _COLOURS.get(record.levelno)
        if code is None:
            return text
        head, level, rest = text.partition(f" {record.levelname}")
        return f"{head}\x1b[{code}m{level}\x1b[0m{rest}"


def _of_handler() -> Mapping[str, Any]:
    current = handling.get()
    return {} if current is None else handled(current)


def _uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("eventbus").critical("Nobody caught %s.", kind.__name__, exc_info=(kind, error, trace))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is None or issubclass(told.exc_type, SystemExit):
        return
    name = told.thread.name if told.thread else "a thread"
    logging.getLogger("eventbus").critical(
        "Nobody caught %s in %s.", told.exc_type.__name__, name,
        exc_info=(told.exc_type, told.exc_value, told.exc_traceback),
    )  # fmt: skip
