"""`python -m tests.fuzz [TARGET ...]`: every reader of bytes, damaged towards code not yet reached, by Atheris.

Needs `pip install -e '.[fuzz]'`. The suite's own damage (`damage.py`) is random, and needs nothing.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.test_reading import CORPUS, TARGETS


def main() -> int:
    """Return 0 when nothing broke, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    asked = parser.parse_args()
    if unknown := set(asked.targets) - TARGETS.keys():
        parser.error(f"There is no target {min(unknown)!r}.")
    broken = [name for name in asked.targets or TARGETS if not holds(name, asked.seconds)]
    print(f"Broken: {', '.join(broken)}." if broken else "Nothing broke.")
    return bool(broken)


def holds(name: str, seconds: int) -> bool:
    """Damage one target's bytes for so long; say what came of it, and tell whether it held."""
    with tempfile.TemporaryDirectory(prefix="eventbus-fuzz-") as folder:
        kept = Path(folder)
        for path in (CORPUS / name).glob("*"):
            shutil.copy(path, kept)
        command = [sys.executable, "-m", "tests.fuzz.guided", name, str(seconds), folder]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        found = [path for path in kept.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
        print(f"{name:<28} {len(list(kept.iterdir())):>5} inputs that reached something", flush=True)
        for path in found:
            print(f"  {path.name}: {path.read_bytes()[:400]!r}\n{ended.stderr[-2000:]}", flush=True)
        if ended.returncode and not found:
            print(f"  it ended with {ended.returncode}:\n{ended.stderr[-2000:]}", flush=True)
        return not found and ended.returncode == 0


if __name__ == "__main__":
    raise SystemExit(main())
