"""Exit codes, and the one place where an error becomes a sentence on stderr and a code.

    0     done                       2     the command line or its input is wrong
    1     it failed                  130   Ctrl-C        141   the reader of our output went away

Commands raise; nothing else in the console prints an error and ends the process.
"""

from __future__ import annotations

import errno
import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec

import typer

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

CODES = (
    "Exit codes: 0 done; 1 it failed (a server cannot be reached, a check found something wrong); 2 the command line "
    "or its input is wrong; 130 interrupted by Ctrl-C; 141 the reader of the output went away (| head)."
)

P = ParamSpec("P")


class Mistake(ValueError):
    """What the user gave cannot be used; the message is one sentence."""


class Failed(Exception):
    """What was asked for cannot be had here and now; the message is one sentence."""


def reporting(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap a command so that what goes wrong in it is one sentence and an exit code.

    A bug is not disguised: an exception that is neither ours nor the user's keeps its traceback.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        from events.errors import EventBusError

        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except (EventBusError, Mistake, Failed) as error:
            complain(str(error))
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(silence()) from None
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            complain(f"Writing failed: {error.strerror}.")
            silence()
            raise typer.Exit(FAILED) from None

    return wrapped


@contextmanager
def going_on(how: str) -> Iterator[None]:
    """Say how what is inside is gone on with, when Ctrl-C ends it."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"Interrupted: {how}")
        raise


def code_of(error: Exception) -> int:
    """Return the exit code of an error: was it what the user gave, or what the world did?"""
    from events import errors

    if isinstance(error, errors.MalformedEntry):
        return FAILED
    return MISTAKE if isinstance(error, (ValueError, LookupError, errors.EventIdConflict)) else FAILED


def complain(sentence: str) -> None:
    """Write a sentence to stderr."""
    print(f"eventbus: {sentence}", file=sys.stderr, flush=True)


def silence() -> int:
    """Give up stdout, whose reader is gone, so that nothing fails when Python flushes it; return the code."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED
