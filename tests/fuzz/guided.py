"""`python -m tests.fuzz.guided TARGET SECONDS FOLDER`: one reader, damaged by libFuzzer towards code not yet reached.

Begun by `python -m tests.fuzz`. The package is instrumented as it is imported, so nothing of it may be imported before.

FOLDER: inputs that reached something new are kept there, and what breaks the reader as `crash-*`, `timeout-*`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

LIMIT_S = 10  # of one input; instrumented code is some ten times slower
LONGEST = 65_536  # bytes


def main() -> None:
    """Damage until the time is over, or something breaks; libFuzzer ends the process."""
    name, seconds, folder = sys.argv[1:4]
    with atheris.instrument_imports(include=["events", "store", "workers", "console"]):
        from tests.fuzz.test_reading import TARGETS

    target = TARGETS[name]
    seeds = Path(folder)
    for number, example in enumerate(target.examples):
        (seeds / f"example-{number}").write_bytes(example)

    def read(data: bytes) -> None:
        try:
            target.run(data)
        except target.errors as error:
            assert str(error).strip(), f"{type(error).__name__} says nothing."

    limits = [f"-max_total_time={seconds}", f"-timeout={LIMIT_S}", f"-max_len={LONGEST}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={folder}/", folder], read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
