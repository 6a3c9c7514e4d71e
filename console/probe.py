"""Loads an application once, in a process of its own, before worker processes are started on it.

Each of them would say the same of an application that cannot be loaded. What supervises never loads one: a leak
or a crash there must not reach it. What needs its payload models does, see `console/application.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

import typer

from console.exits import MISTAKE, Mistake

# Not `-m`: an application's own `console.py` would be taken for ours.
_ROOT = str(Path(__file__).resolve().parent.parent)
_ENTRY = "import sys; sys.path.append(sys.argv.pop(1)); from console.probe import main; main(*sys.argv[1:])"
_REFUSED = 3
_BROKEN = 4


def require_loadable(target: str, subscribers: Sequence[str] = ()) -> None:
    """Make sure that the application loads and has these subscribers, all of its own when none are named.

    A probe that ends in another way (killed, out of memory) proves nothing, and the workers are left to try.

    Raises:
        Mistake: it does not; the sentence is the loader's.
        typer.Exit: it raised, and its traceback was shown, once.
    """
    command = [sys.executable, "-P", "-c", _ENTRY, _ROOT, target, *subscribers]
    # Not a pipe: a process that the application leaves behind would hold its other end.
    with TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors) as process:
            code = process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip()
    if code == _REFUSED:
        raise Mistake(said.splitlines()[-1])
    if code == _BROKEN:
        print(said, file=sys.stderr, flush=True)
        raise typer.Exit(MISTAKE)


def main(target: str, *subscribers: str) -> None:
    """Load the application, and end this process with what came of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="eventbus-parent", daemon=True).start()
    from events.errors import EventBusError
    from workers.loading import chosen, load_app

    code = 0
    try:
        chosen(load_app(target), list(subscribers) or None)
    except EventBusError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        code = _REFUSED
    except BaseException:  # an application may also exit
        sys.excepthook(*sys.exc_info())
        code = _BROKEN
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(0)
