"""A document as its reader follows it: files are written, Python runs, commands run and answer as shown.

    ```python     runs in the document's one interpreter; begins it with `# NAME.py`, it becomes that file instead
    ```console    each `$ command` runs in a shell; the lines below it are what it prints. `...` stands for any text
                  in a line, alone for any lines, and gaps do not count. Without lines it only has to succeed
    any other     becomes a file, if a note says so; else it is to be read

    <!-- file: NAME -->         the block is that file
    <!-- until -->              the command is repeated until it prints what is shown: what workers do takes a moment
    <!-- background: TEXT -->   the command goes on until the document ends; the next step waits until it printed TEXT
    <!-- goes on -->           the command would not end: it is ended once it has printed what is shown
    <!-- stop -->               Ctrl-C to what goes on in the background, before the block
    <!-- exits: N -->           the command ends with this code
    <!-- not run: REASON -->    only its form is checked

All of it happens in one empty directory, with no server configured, on any free port. `EV-...` in a command is the last
event id that was printed, as a reader would copy it; `localhost:8080` is where the web process in the background is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.console.command import prefork
from tests.documents import ONLY_COMPILED, ROOT, Block
from tests.waiting import wait_until

DEADLINE_S = 180
STOP_S = 60
COMMANDS = {
    "eventbus": "import sys; from console.main import main; sys.exit(main())",
    "honcho": "import sys; from honcho.command import main; sys.exit(main())",
}

# Reads a JSON line [where, code] for each block, runs it, and says so; `await` works at the top level.
INTERPRETER = """
import asyncio, inspect, json, sys, warnings
from ast import PyCF_ALLOW_TOP_LEVEL_AWAIT

warnings.filterwarnings("ignore", "datetime.datetime.utcnow", DeprecationWarning)
namespace = {"__name__": "__documentation__"}
with asyncio.Runner() as runner:
    for line in sys.stdin:
        where, code = json.loads(line)
        compiled = compile(code, where, "exec", PyCF_ALLOW_TOP_LEVEL_AWAIT)
        print("---", where, flush=True)
        if compiled.co_flags & inspect.CO_COROUTINE:
            async def run(compiled=compiled):
                await eval(compiled, namespace)
            runner.run(run())
        else:
            exec(compiled, namespace)
        print("+++", where, flush=True)
"""


def clean_environ() -> dict[str, str]:
    """Return the environment without what configures a bus or a run of tests."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("EVENTBUS_", "REDIS_", "DATABASE_", "PYTEST_"))
    }


def file_of(block: Block) -> str | None:
    """Return the name of the file that a block is."""
    if named := block.note("file"):
        return named
    first = re.match(r"# ([\w/]+\.py)\n", block.code) if block.language in ("python", "py") else None
    return first[1] if first else None


def commands_of(block: Block) -> list[tuple[str, list[str]]]:
    """Return the commands of a console block, each with the lines that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in block.code.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line.startswith("> ") and found and found[-1][0].endswith("\\"):
            found[-1] = (found[-1][0] + "\n" + line[2:], [])
        else:
            assert found, f"{block.where}: the block does not begin with a command"
            found[-1][1].append(line)
    return found


def is_as_shown(shown: Sequence[str], printed: str) -> bool:
    """Tell whether a command has printed what a document shows."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "..." else _any_gaps(line) + "\n" for line in shown)
    text = "".join(" ".join(line.split()) + "\n" for line in printed.strip().splitlines())
    return re.fullmatch(pattern.strip("\n") + r"\n*", text) is not None


def _any_gaps(line: str) -> str:
    return ".*".join(re.escape(" ".join(part.split())) for part in line.split("..."))


class Reader:
    """Follows one document, in a directory of its own. Leaves no process behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._python: subprocess.Popen[str] | None = None
        self._background: list[tuple[subprocess.Popen[bytes], Path]] = []
        self._last_id = "EV-..."
        self._address = "localhost:8080"
        programs = folder.parent / f"{folder.name}-bin"
        programs.mkdir()
        (programs / ".curlrc").write_text("silent\n")  # on a terminal it shows no progress either
        for name, code in COMMANDS.items():
            (programs / name).write_text(f"#!{sys.executable}\n{code}\n")
        (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        for program in programs.iterdir():
            program.chmod(0o755)
        self._environ = clean_environ() | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "TZ": "UTC",
            "CURL_HOME": str(programs),
            "PORT": "0",
        }  # fmt: skip

    def follow(self, block: Block) -> None:
        """Do what a block says.

        Raises:
            AssertionError: it does not come out as the document says.
        """
        if block.note("stop") is not None:
            self.stop()
        if name := file_of(block):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code)
        elif block.note("not run") is not None or block.code.lstrip().startswith(ONLY_COMPILED):
            pass
        elif block.language in ("python", "py"):
            self._run_python(block)
        elif block.language == "console":
            for command, shown in commands_of(block):
                self._run(block, command, shown)

    def stop(self) -> None:
        """Press Ctrl-C, and wait until everything in the background has ended."""
        for process, _ in self._background:
            os.killpg(process.pid, signal.SIGINT)
        for process, log in self._background:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(f"What ran in the background has not ended:\n{log.read_text()[-3000:]}") from None
        self._background.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        python, self._python = self._python, None
        try:
            if python is not None:
                _closed(python.stdin)
                python.wait(STOP_S)
                assert error is not None or python.returncode == 0, "the document's interpreter ended badly"
        finally:
            if python is not None and python.poll() is None:
                python.kill()
            self.stop()

    # inside

    def _run_python(self, block: Block) -> None:
        if self._python is None:
            self._python = subprocess.Popen(
                [sys.executable, "-c", INTERPRETER], cwd=self.folder, env=self._environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        assert self._python.stdin is not None and self._python.stdout is not None
        self._python.stdin.write(json.dumps([block.where, block.code]) + "\n")
        self._python.stdin.flush()
        printed: list[str] = []
        for line in self._python.stdout:
            if line == f"+++ {block.where}\n":
                break
            printed.append(line)
        else:
            raise AssertionError(f"{block.where} failed:\n{''.join(printed)}")
        self._see("".join(printed))

    def _run(self, block: Block, command: str, shown: list[str]) -> None:
        command = command.replace("EV-...", self._last_id).replace("localhost:8080", self._address)
        waits_for = block.note("background")
        if waits_for is not None:
            return self._start(block, command, waits_for)
        if block.note("goes on") is not None:
            return self._watch(block, command, shown)
        code = int(block.note("exits") or 0)
        is_repeated = block.note("until") is not None
        answers: list[str] = []

        def answered() -> bool:
            ended, printed = self._answer(command)
            answers.append(f"{printed}(exit code {ended})")
            self._see(printed)
            return ended == code and (not any(shown) or is_as_shown(shown, printed))

        try:
            is_right = wait_until(answered, DEADLINE_S) if is_repeated else answered()
        except AssertionError:
            is_right = False
        if not is_right:
            raise AssertionError(f"{block.where}: $ {command}\nprinted\n{answers[-1]}\nand not\n{chr(10).join(shown)}")
        return None

    def _answer(self, command: str) -> tuple[int, str]:
        """Return a command's exit code, and what it prints on a terminal."""
        words = _words_of(command)
        if words:  # forked: importing everything again for each command would take most of the time
            code, out, err = prefork().run(words, cwd=self.folder, env=self._environ, stdin=b"", timeout_s=DEADLINE_S)
            return code, (out + err).decode()
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=DEADLINE_S,
        )  # fmt: skip
        return done.returncode, done.stdout

    def _start(self, block: Block, command: str, waits_for: str) -> None:
        log = self.folder.parent / f"{self.folder.name}-{block.line}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        self._background.append((process, log))
        what = f"{waits_for!r} of {command!r} ({block.where})"
        wait_until(lambda: waits_for in log.read_text() or process.poll() is not None, DEADLINE_S, what)
        assert process.poll() is None, f"{block.where}: $ {command} ended:\n{log.read_text()[-3000:]}"
        if found := re.search(r"running on http://([\w.]+:\d+)", log.read_text()):
            self._address = found[1]

    def _watch(self, block: Block, command: str, shown: list[str]) -> None:
        log = self.folder.parent / f"{self.folder.name}-{block.line}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"], cwd=self.folder, env=self._environ, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output,
            )  # fmt: skip
        try:
            wait_until(lambda: is_as_shown(shown, log.read_text()), DEADLINE_S)
        except AssertionError:
            wrong = f"{block.where}: $ {command}\nprinted\n{log.read_text()}\nand not\n{chr(10).join(shown)}"
            raise AssertionError(wrong) from None
        finally:
            process.kill()
            process.wait(STOP_S)

    def _see(self, printed: str) -> None:
        if ids := re.findall(r"\bEV-[\w-]+", printed):
            self._last_id = ids[-1]


def _words_of(command: str) -> list[str]:
    """Return the arguments of a command that is `eventbus` with words and nothing of a shell; else nothing."""
    lexer = shlex.shlex(command.replace("\\\n", " "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    is_plain = words[:1] == ["eventbus"] and not any(set(word) <= set("();<>|&") for word in words)
    return words[1:] if is_plain and "$" not in command else []


def _closed(stream: IO[str] | None) -> None:
    if stream is not None:
        stream.close()
