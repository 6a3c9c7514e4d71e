"""Every code block of the READMEs and of docs/ is true: Python runs, commands exist with the options shown.

In each file the ```python blocks run in order, in one namespace and one process, against embedded servers in an empty
directory; `await` works at the top level. A block whose first line is `# not run: REASON` is only compiled. ```bash and
```console blocks are checked: their syntax, and every `eventbus` in them. In the documents that a reader follows from
top to bottom (`documents.FOLLOWED`) commands run too, and have to print what is shown: `following.py` says how. The
others are named, with the reason (`documents.UNRUN`).
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.documents import BLOCKS, FILES, FOLLOWED, ONLY_COMPILED, READMES, ROOT, UNRUN, Block, blocks_of, links_of
from tests.following import Reader, file_of, is_as_shown
from tests.model.mutations import MUTATIONS
from tests.prepared import PREPARED

PYTHON = [block for block in BLOCKS if block.language in ("python", "py")]
SHELL = [block for block in BLOCKS if block.language in ("bash", "sh", "shell", "console")]
FOLLOWED_NAMES = [str(path.relative_to(ROOT)) for path in FOLLOWED]
DEMO = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/eventbus demo"
TESTS = "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"


def follow(blocks: list[Block], folder: Path) -> None:
    """Do what the blocks of one document say, in order."""
    folder.mkdir(exist_ok=True)
    with Reader(folder) as reader:
        for block in blocks:
            reader.follow(block)


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


def test_the_readme_opens_with_the_two_commands_and_a_submission_runs_them() -> None:
    judged = (ROOT / ".ci" / "run").read_text().replace(" --quiet", "")

    for path in READMES:
        first, second = [block.code.strip() for block in blocks_of(path.read_text(), path.name)][:2]
        assert (first, second) == (DEMO, TESTS)
    assert DEMO in judged and TESTS in judged


def test_both_readmes_have_the_same_headings_blocks_and_links() -> None:
    english, chinese = (path.read_text() for path in READMES)

    levels = [
        re.findall(r"^(#+) ", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M) for text in (english, chinese)
    ]
    blocks = [[(block.language, block.code) for block in blocks_of(text, "")] for text in (english, chinese)]
    swapped = [
        link.replace("README.md", "README.zh-CN.md") if link == "README.md" else link for link in links_of(chinese)
    ]

    assert levels[0] == levels[1]
    assert blocks[0] == blocks[1]
    assert sorted(links_of(english)) == sorted(swapped)
    assert len(english.splitlines()) < 200, "a front page is read in one sitting"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links_of(index.read_text())}

    assert [str(path) for path in FILES if path.is_relative_to(index.parent) and path not in linked | {index}] == []


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.where)
def test_a_python_block_compiles(block: Block) -> None:
    compile(block.code, block.where, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if block.code.lstrip().startswith(ONLY_COMPILED):
        assert block.code.lstrip().splitlines()[0].removeprefix(ONLY_COMPILED).strip(), (
            "it does not say why it is not run"
        )


@pytest.mark.parametrize("file", sorted({block.file for block in PYTHON} - {*FOLLOWED_NAMES}))
def test_the_python_blocks_of_a_document_run_in_order(file: str, tmp_path: Path) -> None:
    follow([block for block in PYTHON if block.file == file], tmp_path / "reader")


@pytest.mark.parametrize("file", FOLLOWED_NAMES)
def test_whoever_follows_a_document_sees_what_it_says(file: str, tmp_path: Path) -> None:
    before = blocks_of(PREPARED.get(file, ""), f"before {file}")
    follow([*before, *(block for block in BLOCKS if block.file == file)], tmp_path / "reader")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.where)
def test_a_shell_block_is_well_formed_and_its_commands_exist(block: Block) -> None:
    if block.language != "console":
        done = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True, timeout=10)
        assert done.returncode == 0, done.stderr
    assert [wrong for words in commands_of(block) if (wrong := complaint(words))] == []


def test_commands_run_or_somebody_says_why_not() -> None:
    unrun = {
        block.file
        for block in SHELL
        if (block.language != "console" or block.file not in FOLLOWED_NAMES) and not block.note("not run")
    }

    assert unrun == UNRUN.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_to_files_and_headings_lead_somewhere(path: Path) -> None:
    lost = []
    for link in links_of(path.read_text()):
        name, _, fragment = link.partition("#")
        target = path.parent / name if name else path
        if ":" in name:
            continue
        if not target.exists() or (fragment and fragment not in anchors_of(target)):
            lost.append(link)
    assert lost == []


def anchors_of(path: Path) -> set[str]:
    """Return the fragments that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
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
    follow([block for block in blocks if block.language == "python"], tmp_path / "reader")


def test_a_block_that_fails_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r'File "sample.md:7", line 1'):
        follow([Block("sample.md", 7, "python", "1 / 0\n")], tmp_path / "reader")


FOLLOWABLE = """
```python
# told.py
print("EV-1 of", 3)
```

<!-- file: notes/Procfile -->
```text
worker: eventbus worker
```

<!-- background: ready -->
```console
$ python -c 'import signal; print("ready", flush=True); signal.pause()'
```

```console
$ python told.py
EV-1 ...
$ echo EV-... && ls notes
EV-1
Procfile
```

<!-- stop -->
<!-- exits: 3 -->
```console
$ exit 3
```

<!-- not run: it would not end -->
```console
$ yes
```

<!-- goes on -->
```console
$ python -c 'import signal; print("retry\\n"); print("id: 7", flush=True); signal.pause()'
retry

id: ...
```
"""


def test_a_document_is_followed_as_its_notes_say(tmp_path: Path) -> None:
    blocks = blocks_of(FOLLOWABLE, "sample.md")

    follow(blocks, tmp_path / "reader")

    assert [file_of(block) for block in blocks[:3]] == ["told.py", "notes/Procfile", None]
    assert blocks[4].notes == ("stop", "exits: 3")
    with pytest.raises(AssertionError, match=r"(?s)\$ echo 2\nprinted\n2.*and not\n1"):
        follow(blocks_of("```console\n$ echo 2\n1\n```\n", "sample.md"), tmp_path / "second")


def test_what_is_shown_is_compared_but_for_gaps_and_dots() -> None:
    assert is_as_shown(["a b ... d", "...", "end"], "a    b c d\nx\ny\nend\n")
    assert is_as_shown(["a", "..."], "a\n") and is_as_shown(["..."], "")
    assert not is_as_shown(["a"], "a\nb\n") and not is_as_shown(["a", "b"], "a\n")


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
