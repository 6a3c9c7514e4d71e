"""The fault proxy does what tests of lost replies rely on: the command ran, and its answer is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.fault_proxy import FaultProxy, frame_end
from tests.valkey_servers import DebianRedis, ValkeyServer
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


@pytest.fixture
def proxy(valkey_server: ValkeyServer, redis_url: str) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", valkey_server.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0), socket_timeout=5) as client:
        yield client


def test_a_dropped_reply_belongs_to_a_command_that_ran(
    proxy: FaultProxy, client: redis.Redis, valkey_server: ValkeyServer
) -> None:
    client.ping()
    proxy.drop_replies(2, matching=b"INCR")

    for _ in range(2):
        client.set("other", 1)
        with pytest.raises(redis.ConnectionError):
            client.incr("n")

    assert client.incr("n") == 3
    assert (proxy.dropped, proxy.to_drop) == (2, 0)


def test_earlier_replies_of_a_pipeline_arrive_before_the_cut(proxy: FaultProxy, client: redis.Redis) -> None:
    connection = client.connection_pool.get_connection()
    proxy.drop_replies(1, matching=b"second")

    connection.send_packed_command(connection.pack_commands([("INCR", "first"), ("INCR", "second"), ("INCR", "third")]))

    assert connection.read_response() == 1
    with pytest.raises(redis.ConnectionError):
        connection.read_response()
    assert client.get("second") == b"1"


def test_a_default_client_runs_a_command_again_when_its_reply_is_lost(proxy: FaultProxy) -> None:
    proxy.drop_replies(3, matching=b"XADD")

    with redis.Redis(port=proxy.port) as client:
        client.xadd("s", {"a": 1})

        assert client.xlen("s") == 4


def test_a_large_request_and_reply_pass_unharmed(proxy: FaultProxy, client: redis.Redis) -> None:
    value = bytes(range(256)) * 20_000

    client.set("big", value)

    assert client.get("big") == value
    assert client.lrange("nothing", 0, -1) == []
    assert client.get("nothing") is None


def test_cut_ends_open_connections_and_accepts_new_ones(proxy: FaultProxy, client: redis.Redis) -> None:
    connection = client.connection_pool.get_connection()
    connection.send_command("BLPOP", "nothing", 0)

    proxy.cut()

    with pytest.raises(redis.ConnectionError):
        connection.read_response()
    assert client.ping()


def test_refuse_turns_new_connections_away_until_it_ends(proxy: FaultProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.refuse(True)

    assert client.ping()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))
    proxy.cut()
    with pytest.raises(redis.ConnectionError):
        client.ping()

    proxy.refuse(False)
    assert client.ping()


def test_stall_holds_replies_back_without_losing_them(proxy: FaultProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.stall(True)
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(client.incr("n")))

    thread.start()
    with pytest.raises(redis.TimeoutError), redis.Redis.from_url(proxy.url, socket_timeout=0.1, retry=None) as other:
        other.ping()
    assert not answers
    proxy.stall(False)
    thread.join(timeout=5)

    assert answers == [1]


def test_connections_of_clients_that_left_are_forgotten(proxy: FaultProxy, client: redis.Redis) -> None:
    client.ping()
    assert proxy.connections == 1

    client.close()

    wait_until(lambda: proxy.connections == 0, what="the proxy to notice that its client left")


@pytest.mark.parametrize(
    "value",
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"$0\r\n\r\n",
        b"*2\r\n$3\r\na\r\n\r\n*1\r\n:5\r\n",
        b"%1\r\n+k\r\n*0\r\n",
        b"|1\r\n+k\r\n+v\r\n*1\r\n_\r\n",
    ],
)
def test_a_resp_value_ends_where_the_specification_says(value: bytes) -> None:
    assert frame_end(b"x" + value + b"+next\r\n", 1) == 1 + len(value)
    assert all(frame_end(value[:cut], 0) is None for cut in range(len(value)))


def test_a_test_server_and_its_directory_end_with_a_killed_test_process() -> None:
    program = (
        "import os, signal; from tests.valkey_servers import ValkeyServer; server = ValkeyServer().start()\n"
        "print(server.port, server.directory, flush=True); signal.pause()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    with process:
        assert process.stdout is not None
        port, directory = process.stdout.readline().split()
        process.kill()

    wait_until(lambda: not Path(directory).exists(), what="the server's directory to be removed")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(port)))


@pytest.mark.parametrize("kind", [ValkeyServer, DebianRedis])
def test_a_test_server_keeps_its_data_over_a_kill(kind: type[ValkeyServer]) -> None:
    if kind is DebianRedis and not DebianRedis.available():
        pytest.skip("Not run: Debian's Redis (/usr/bin/redis-server) is not installed.")
    with kind(aof=True) as server, server.client() as client:
        client.set("kept", "yes")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("kept")

        server.restart()

        assert client.get("kept") == b"yes"
    assert not server.alive()


def test_a_torn_request_does_not_run_and_its_connection_is_cut(proxy: FaultProxy, client: redis.Redis) -> None:
    client.set("n", 1)
    proxy.tear_requests(1)

    with pytest.raises(redis.ConnectionError):
        client.incr("n")

    assert client.get("n") == b"1"
    assert proxy.torn == 1


def test_a_slow_link_holds_back_requests_and_replies_and_loses_none(proxy: FaultProxy, client: redis.Redis) -> None:
    client.ping()
    proxy.delay(0.2)
    began = time.monotonic()

    assert client.incr("n") == 1

    assert time.monotonic() - began >= 0.4
    proxy.delay(0.0)
    assert client.incr("n") == 2
