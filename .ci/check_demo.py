"""Checks what `eventbus demo` made: the files its output names are there and are what they claim to be.

Run as `python .ci/check_demo.py demo.log` in the directory where the demo ran.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import wave
from pathlib import Path

from PIL import Image


def main(log: str) -> None:
    text = Path(log).read_text()
    found = {path.name: path for path in Path().rglob("*") if ".venv" not in path.parts and path.is_file()}
    with Image.open(found["storyboard.gif"]) as film:
        assert film.n_frames > 20, f"the storyboard has {film.n_frames} frames"
    with Image.open(found["contact_sheet.png"]) as sheet:
        sheet.verify()
    with wave.open(str(found["soundtrack.wav"])) as sound:
        assert sound.getnframes() / sound.getframerate() > 1, "the soundtrack is shorter than a second"
    assert json.loads(found["storyboard.json"].read_text()), "the edit list is empty"
    assert "PROJECT_FINALIZED" in text and "PROJECT_CREATED" in text, "the causation tree was not printed"
    commands = re.findall(r"^\s*\$?\s*((?:\S+=\S+ )*\S*eventbus (?:chain|tree|replay|stats)\b.*)$", text, re.MULTILINE)
    assert len(commands) >= 3, f"the output names {len(commands)} commands to look further"
    for command in commands:
        words = [f"./.venv/bin/{w}" if w == "eventbus" else w for w in shlex.split(command.split("  #")[0])]
        done = subprocess.run(["env", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and done.stdout.strip(), f"{command}: {done.stdout} {done.stderr}"
        print(f"works: {command}")


if __name__ == "__main__":
    main(sys.argv[1])
