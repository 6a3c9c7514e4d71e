"""`python -m tests.soak`: a steady million of events under mild faults, and a look at all that could grow with them."""

from __future__ import annotations

import argparse
import shutil
import signal
import tempfile
from pathlib import Path

from tests.soak.report import as_json, screen
from tests.soak.run import Soak, perform

DATABASES = {"sqlite": "sqlite", "postgresql": "postgres"}


def main() -> int:
    """Return 0 when nothing grew, idle processes were quiet and all totals held, 1 otherwise."""
    asked = _parser().parse_args()
    signal.signal(signal.SIGTERM, _end)  # else what runs on the stage would outlive it
    soak = Soak(asked.events, asked.rate, asked.seed, DATABASES[asked.database], asked.idle)
    folder = Path(tempfile.mkdtemp(prefix="eventbus-soak-"))
    try:
        soaked = perform(soak, folder)
    finally:
        if not asked.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(as_json(soaked) if asked.json else screen(soaked), flush=True)
    if asked.keep and not asked.json:
        print(f"Logs and data: {folder}")
    return 0 if soaked.holds else 1


def _end(*_: object) -> None:
    raise SystemExit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    add = parser.add_argument
    add("--events", type=int, default=1_000_000, help="in all; a fifth fewer are published, which cause the others")
    add("--rate", type=float, default=500.0, help="events a second, likewise")
    add("--seed", type=int, default=1, help="of the faults")
    add("--database", choices=sorted(DATABASES), default="sqlite")
    add("--idle", type=float, default=120.0, help="seconds to look at idle processes")
    add("--json", action="store_true", help="print an object instead of a screen")
    add("--keep", action="store_true", help="keep logs and data, and say where")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
