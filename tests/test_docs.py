"""Every code block of README.md and docs/ is true: Python runs, commands exist with the options shown.

In each file the ```python blocks run in order, in one namespace and one process, against embedded servers in
an empty directory; `await` works at the top level. A block whose first line is `# not run: REASON` is only
compiled. ```bash and ```console blocks are checked, not run: their syntax, and every `eventbus` in them.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.model.mutations import MUTATIONS

ROOT = Path(__file__).parent.parent
FILES = [path for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))) if path.exists()]
ONLY_COMPILED = "# not run:"

RUN = """
import asyncio, inspect, json, sys, warnings
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT

warnings.filterwarnings("ignore", "datetime.datetime.utcnow", DeprecationWarning)
namespace = {"__name__": "__documentation__"}
with asyncio.Runner() as runner:
    for where, code in json.load(sys.stdin):
        compiled = compile(code, where, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
        print("---", where, flush=True)
        if compiled.co_flags & inspect.CO_COROUTINE:
            async def run(compiled=compiled):
                await eval(compiled, namespace)
            runner.run(run())
        else:
            exec(compiled, namespace)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block, its language in lower case."""

    file: str
    line: int
    language: str
    code: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def blocks_of(text: str, file: str) -> list[Block]:
    found: list[Block] = []
    start, fence, language, indent = 0, "", "", 0
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        opening = re.match(r"( *)(```+|~~~+) *([\w+-]*)", line)
        if not fence and opening:
            start, fence, language, indent = number, opening[2], opening[3].lower(), len(opening[1])
        elif fence and line.strip().startswith(fence) and not line.strip().strip(fence[0]):
            code = "\n".join(inner[indent:] for inner in lines[start : number - 1]) + "\n"
            found.append(Block(file, start, language, code))
            fence = ""
    assert not fence, f"{file}:{start}: the block is not closed"
    return found


BLOCKS = [block for path in FILES for block in blocks_of(path.read_text(), str(path.relative_to(ROOT)))]
PYTHON = [block for block in BLOCKS if block.language in ("python", "py")]
SHELL = [block for block in BLOCKS if block.language in ("bash", "sh", "shell", "console")]


def run_blocks(blocks: list[Block], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run blocks in order in one process, in an empty directory, with no server configured."""
    runnable = [(block.where, block.code) for block in blocks if not block.code.lstrip().startswith(ONLY_COMPILED)]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("EVENTBUS_", "REDIS_", "DATABASE_"))
    }
    return subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env=clean | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "EVENTBUS_HOME": str(folder / "home")},
        input=json.dumps(runnable),
        capture_output=True,
        text=True,
        timeout=120,
    )


def commands_of(block: Block) -> list[list[str]]:
    """Return the words of every simple command of a shell block that calls `eventbus`.

    Raises:
        ValueError: a line cannot be read as words.
    """
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    commands = []
    for line in lines:
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        simple: list[list[str]] = [[]]
        for word in lexer:
            if set(word) <= set("();<>|&"):
                simple.append([])
            else:
                simple[-1].append(word)
        for words in simple:
            while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0]):
                words = words[1:]  # NAME=value before the command
            if words and Path(words[0]).name == "eventbus":
                commands.append(words[1:])
    return commands


def complaint(words: list[str]) -> str | None:
    """Say what is wrong with the arguments of one `eventbus` command; None when the command line would accept them."""
    from typer.main import get_command

    from console.main import app

    group: Any = get_command(app)
    if not words or words[0].startswith("-"):
        return None if set(words) <= {"--help", "-h", "--version"} else f"eventbus {' '.join(words)}: no command"
    command = group.commands.get(words[0])
    if command is None:
        return f"eventbus has no command {words[0]!r}"
    if commands := getattr(command, "commands", None):
        if len(words) < 2 or words[1] not in commands:
            return None if set(words[1:]) <= {"--help", "-h"} else f"eventbus {words[0]} has no command {words[1]!r}"
        command, words = commands[words[1]], [" ".join(words[:2]), *words[2:]]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    given = [word.partition("=")[0] for word in words[1:] if re.match(r"--?[A-Za-z]", word)]
    unknown = [option for option in given if option not in known | {"--help", "-h"}]
    return f"eventbus {words[0]} has no option {unknown[0]}" if unknown else None


# the documents


def test_the_readme_has_code() -> None:
    assert any(block.file == "README.md" for block in BLOCKS)


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_a_python_block_compiles(block: Block) -> None:
    compile(block.code, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.code.lstrip().startswith(ONLY_COMPILED):
        assert block.code.lstrip().splitlines()[0].removeprefix(ONLY_COMPILED).strip(), (
            "it does not say why it is not run"
        )


@pytest.mark.parametrize("file", sorted({block.file for block in PYTHON}))
def test_the_python_blocks_of_a_document_run_in_order(file: str, tmp_path: Path) -> None:
    done = run_blocks([block for block in PYTHON if block.file == file], tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_a_shell_block_is_well_formed_and_its_commands_exist(block: Block) -> None:
    if block.language != "console":
        done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr
    assert [wrong for words in commands_of(block) if (wrong := complaint(words))] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^( *)(```+).*?^\1\2", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", prose)]

    assert [t for t in targets if t and ":" not in t and not (path.parent / t).exists()] == []


TEST_NAMES = {
    node.name
    for path in (ROOT / "tests").rglob("test_*.py")
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
}


def unknown_tests(text: str) -> list[str]:
    """Return the tests, and the mutations of `test_the_checker_catches[...]`, that a document names and nobody has."""
    unknown = []
    for line in text.splitlines():
        catches = "test_the_checker_catches[" in line
        for code in re.findall(r"`([^`]+)`", line):
            named = re.fullmatch(r"(test_\w+)?(?:\[(\w+)\])?", code)
            if named and named[1] and named[1] not in TEST_NAMES:
                unknown.append(named[1])
            if named and catches and named[2] and named[2] not in MUTATIONS:
                unknown.append(code)
    return unknown


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_test_that_a_document_names_exists(path: Path) -> None:
    assert unknown_tests(path.read_text()) == []


def test_each_trap_has_a_test() -> None:
    table = (ROOT / "docs" / "testing.md").read_text().partition("## Traps")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][2:]

    assert len(rows) > 30
    assert [row[0] for row in rows if len(row) != 2 or "`test_" not in row[1]] == []


# the rules themselves


SAMPLE = """
# Title

```python
x = 1
```

   ```python
   import asyncio
   await asyncio.sleep(0)
   assert x == 1
   ```

```python
# not run: it needs a second machine
raise SystemExit(1)
```

```console
$ REDIS_URL=redis://x eventbus worker --processes 2 && eventbus demo | head
Ready.
$ .venv/bin/eventbus fly --high
```
"""


def test_blocks_are_found_with_their_lines_and_run_in_one_namespace(tmp_path: Path) -> None:
    blocks = blocks_of(SAMPLE, "sample.md")

    assert [(block.line, block.language) for block in blocks] == [
        (4, "python"),
        (8, "python"),
        (14, "python"),
        (19, "console"),
    ]
    done = run_blocks([block for block in blocks if block.language == "python"], tmp_path)
    assert (done.returncode, done.stdout) == (0, "--- sample.md:4\n--- sample.md:8\n"), done.stderr


def test_a_block_that_fails_is_named(tmp_path: Path) -> None:
    done = run_blocks([Block("sample.md", 7, "python", "1 / 0\n")], tmp_path)

    assert done.returncode == 1
    assert 'File "sample.md:7", line 1' in done.stderr


def test_commands_are_found_in_pipes_and_checked() -> None:
    pytest.importorskip("console.main", reason="console.main does not exist yet")
    block = blocks_of(SAMPLE, "sample.md")[-1]

    assert commands_of(block) == [["worker", "--processes", "2"], ["demo"], ["fly", "--high"]]
    assert [complaint(words) for words in commands_of(block)] == [None, None, "eventbus has no command 'fly'"]
    assert complaint(["dead", "retry", "EV-1", "--dry-run"]) is None
    assert complaint(["dead", "bury"]) == "eventbus dead has no command 'bury'"
    assert complaint(["dead", "retry", "--wings"]) == "eventbus dead retry has no option --wings"
    assert complaint(["worker", "--wings"]) == "eventbus worker has no option --wings"


def test_a_test_that_nobody_has_is_named() -> None:
    text = "`test_that_never_was`, `test_the_readme_has_code`, `tests/test_docs.py` and `[]`\n"
    text += "`test_the_checker_catches[no_fence]`, `[no_such_fault]`"

    assert unknown_tests(text) == ["test_that_never_was", "[no_such_fault]"]


def test_a_block_that_is_not_closed_is_named() -> None:
    with pytest.raises(AssertionError, match=r"sample.md:2: the block is not closed"):
        blocks_of("text\n```python\nx = 1\n", "sample.md")
