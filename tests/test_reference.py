"""The reference in docs/reference is made of the docstrings, is up to date, and leaves no pinned name out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.documents import ROOT

FOLDER = ROOT / "docs" / "reference"
# What operators and the tests of the engine see, and no application imports.
NOT_FOR_APPLICATIONS = {"GROUP", "SUFFIX", "Keys", "NAMES", "sources", "COLUMNS", "metadata"}


def generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "docs/reference.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_the_reference_is_up_to_date() -> None:
    checked = generate("--check")

    assert checked.returncode == 0, checked.stderr


def test_every_name_that_is_pinned_is_in_the_reference() -> None:
    pinned = ast.parse((ROOT / "tests" / "test_public_api.py").read_text())
    names = {
        alias.name
        for node in ast.walk(pinned)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("events", "store")
        for alias in node.names
    }
    headings = {
        heading.rpartition(".")[2]
        for path in FOLDER.glob("*.md")
        for heading in re.findall(r"^##+ (\S+)$", path.read_text(), re.MULTILINE)
    }

    assert len(names) > 40
    assert sorted(names - NOT_FOR_APPLICATIONS - headings - {"Settings"}) == []
    assert "`EVENTBUS_LEASE_S`" in (FOLDER / "settings.md").read_text()


def test_every_command_is_in_the_reference() -> None:
    from typer.main import get_command

    from console.main import app

    headings = set(re.findall(r"^## (.+)$", (FOLDER / "cli.md").read_text(), re.MULTILINE))
    commands: dict[str, object] = get_command(app).commands  # type: ignore[attr-defined]
    full = {
        f"{name} {below}".strip() for name, command in commands.items() for below in getattr(command, "commands", {""})
    }

    assert full <= headings


def test_a_page_that_is_not_up_to_date_is_named_with_the_command_to_run(tmp_path: Path) -> None:
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pathlib, reference; print(reference.stale(pathlib.Path('.'))); "
            "reference.write(pathlib.Path('.')); print(reference.stale(pathlib.Path('.')), reference.COMMAND)",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": f"{ROOT / 'docs'}:{ROOT}"},
    )

    assert said.returncode == 0, said.stderr
    missing, after = said.stdout.splitlines()
    assert "'bus.md'" in missing and after == "[] python docs/reference.py"


def test_no_bar_of_a_name_ends_a_cell_of_a_table() -> None:
    ends = re.compile(r"(?<!\\)\|")
    for page in FOLDER.glob("*.md"):
        columns = 0
        for line in page.read_text().splitlines():
            if not line.startswith("|"):
                columns = 0
                continue
            columns = columns or len(ends.findall(line))
            assert len(ends.findall(line)) == columns, f"{page.name}: {line}"
