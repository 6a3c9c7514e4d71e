"""What the packages' code must not contain, read from its syntax tree; and what bytes of others cannot do."""

from __future__ import annotations

import ast
import os
import pickle
from pathlib import Path

import pytest

from tests.fleet.fleet import World
from tests.fleet.test_delivery import make, publish
from tests.test_architecture import SOURCES, Source
from tests.waiting import wait_until

EXAMPLES = [Source(path) for path in sorted((Path(__file__).parents[2] / "examples").rglob("*.py"))]

# Modules that run what they read, or read what nobody should.
NEVER_IMPORTED = {
    "pickle", "_pickle", "cPickle", "dill", "cloudpickle", "jsonpickle", "marshal", "shelve", "yaml", "code", "pty",
    "telnetlib", "xmlrpc", "runpy", "multiprocessing",
}  # fmt: skip
NEVER_CALLED = {"eval", "exec", "compile", "__import__"}
NEVER_CALLED_OF = {
    ("os", "system"), ("os", "popen"), ("subprocess", "getoutput"), ("subprocess", "getstatusoutput"),
    ("asyncio", "create_subprocess_shell"), ("tempfile", "mktemp"), ("yaml", "load"),
    ("ssl", "_create_unverified_context"),
}  # fmt: skip
STARTING = {"run", "Popen", "call", "check_call", "check_output"}  # processes
EVERY = pytest.mark.parametrize("source", [*SOURCES.values(), *EXAMPLES], ids=lambda source: source.name)


def faults_of(tree: ast.AST) -> list[str]:
    """Every forbidden import and call, with its line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            modules = []
        found += [f"line {node.lineno}: imports {m}" for m in modules if m.partition(".")[0] in NEVER_IMPORTED]  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            found += _faults_of_call(node)
    return found


def _faults_of_call(call: ast.Call) -> list[str]:
    found = []
    match call.func:
        case ast.Name(id=name) if name in NEVER_CALLED:
            found.append(name)
        case ast.Attribute(value=ast.Name(id=module), attr=name) if (module, name) in NEVER_CALLED_OF:
            found.append(f"{module}.{name}")
    callee = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    for keyword in call.keywords if callee in STARTING else ():
        is_off = isinstance(keyword.value, ast.Constant) and not keyword.value.value
        if keyword.arg == "shell" and not is_off:
            found.append("a call with shell=")
    return [f"line {call.lineno}: {what}" for what in found]


@EVERY
def test_no_module_runs_what_it_reads(source: Source) -> None:
    assert faults_of(source.tree) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import os, marshal", "eval('1')", "exec(text)",
        "__import__(name)",
        "yaml.load(text)", "os.system('ls')", "subprocess.run('ls', shell=True)", "subprocess.Popen(x, shell=flag)",
        "def f():\n    import shelve",
    ],
)  # fmt: skip
def test_the_rule_finds_what_it_is_about(line: str) -> None:
    assert faults_of(ast.parse(line))


class Trap:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.path),)


def test_a_pickle_in_the_place_of_an_event_is_a_dead_letter_and_is_not_opened(fleet: World, tmp_path: Path) -> None:
    sprung, good = tmp_path / "sprung", make("PLAIN_WORK")
    pickled = pickle.dumps(Trap(sprung), protocol=0)
    header = b"5\t0\t0\t0\tPLAIN_WORK\t\tP\t0\t\n"

    for queued in (pickled, header + pickled, header + pickle.dumps(Trap(sprung))):
        fleet.redis.xadd(fleet.keys("queue", "Plain"), {"f": queued})
    fleet.redis.xadd(fleet.keys("queue", "Plain"), {"pickle": pickled})
    publish(fleet, good)
    letters = wait_until(lambda: len(found := fleet.dead("Plain")) == 4 and found, 30, "four dead letters")
    fleet.until_settled("Plain")

    reasons = [letter["r"] for letter in letters]
    assert all("The queue entry is not a delivery" in reason or "The body is not JSON" in reason for reason in reasons)
    assert fleet.runs("Plain", of=[good]).total() == 1
    assert not sprung.exists()
