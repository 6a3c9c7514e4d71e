"""TLS: nothing is trusted that nobody said to trust, and what is refused names the switch."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.bus import EventBus
from events.connection import connect, mapped
from events.errors import CertificateRefused, InvalidSettings, RedisUnavailable, StoreUnavailable
from events.event import Event
from events.link import Link
from events.settings import Settings
from store.engine import open_engine, reading
from tests.fleet.fleet import World
from tests.security.authority import Authority
from tests.security.conftest import TlsRedis
from tests.servers import DebianPostgres, PostgresServer, migrate
from tests.waiting import wait_until


@pytest.fixture
def world(tls_redis: TlsRedis, authority: Authority, tmp_path: Path, namespace: str) -> Iterator[World]:
    """A namespace on the server with TLS, whose authority is trusted."""
    database = f"sqlite:///{tmp_path / 'store.db'}"
    migrate(database)
    settings = Settings(
        redis_url=tls_redis.url_of(), redis_trust=str(authority.certificate), database_url=database,
        namespace=namespace, lease_s=2, timeout_s=5,
    )  # fmt: skip
    made = World(settings, tmp_path)
    yield made
    made.close()


def ask(url: str, trust: str | None = None, timeout_s: float = 10) -> bool:
    client = connect(url, timeout_s, trust)
    try:
        with mapped(client):
            return bool(client.ping())
    finally:
        client.close()


def test_an_authority_that_nobody_knows_is_refused_and_the_switch_is_named(tls_redis: TlsRedis) -> None:
    with pytest.raises(CertificateRefused) as caught:
        ask(tls_redis.url_of())

    assert f"Redis at rediss://localhost:{tls_redis.tls_port}/0 shows a certificate that is not trusted" in str(
        caught.value
    )
    assert "unable to get local issuer certificate" in str(caught.value)
    assert "Name the PEM file of its authority in EVENTBUS_REDIS_TRUST" in str(caught.value)


def test_an_authority_that_is_named_is_trusted_for_the_names_it_has_signed(
    tls_redis: TlsRedis, authority: Authority
) -> None:
    assert ask(tls_redis.url_of(), str(authority.certificate))
    assert ask(tls_redis.url_of(query=f"?ssl_ca_certs={authority.certificate}"))

    with pytest.raises(CertificateRefused, match=r"shows the certificate of another \(IP address mismatch"):
        ask(tls_redis.url_of("127.0.0.1"), str(authority.certificate))
    assert ask(tls_redis.url_of("127.0.0.1", "?ssl_check_hostname=false"), str(authority.certificate))


def test_another_authority_is_refused(tls_redis: TlsRedis, tmp_path: Path) -> None:
    other = Authority(tmp_path)

    with pytest.raises(CertificateRefused, match="not trusted"):
        ask(tls_redis.url_of(), str(other.certificate))


def test_who_says_any_trusts_every_certificate_as_on_heroku(tls_redis: TlsRedis) -> None:
    assert ask(tls_redis.url_of("127.0.0.1"), "any")
    assert ask(tls_redis.url_of("127.0.0.1", "?ssl_cert_reqs=none"))


def test_what_the_url_says_goes_before_the_variable(tls_redis: TlsRedis) -> None:
    with pytest.raises(CertificateRefused):
        ask(tls_redis.url_of(query="?ssl_cert_reqs=required"), "any")


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_without_a_certificate_is_named_before_anything_connects(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "authority.pem"
    if content is not None:
        file.write_text(content)

    with pytest.raises(InvalidSettings, match="EVENTBUS_REDIS_TRUST must be the path of a PEM file") as caught:
        connect("rediss://localhost:1/0", 1, str(file))

    assert str(file) in str(caught.value)


def test_no_password_is_sent_to_a_server_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with TlsRedis(authority.sign("DNS:localhost"), password="sesame") as server:
        server.client().config_set("requirepass", "another")
        with pytest.raises(CertificateRefused) as caught:  # the password is wrong, and that is not what is said
            ask(server.url_of())

        assert "sesame" not in str(caught.value)


def test_a_port_of_the_other_kind_cannot_be_reached(tls_redis: TlsRedis) -> None:
    for url in (f"rediss://localhost:{tls_redis.port}/0", tls_redis.url_of(scheme="redis")):
        with pytest.raises(RedisUnavailable) as caught:
            ask(url, "any", timeout_s=2)
        assert type(caught.value) is RedisUnavailable


def test_the_loops_own_link_verifies_as_the_threads_do(tls_redis: TlsRedis, authority: Authority) -> None:
    async def open_and_ask(url: str, trust: str | None) -> object:
        link = await Link.open(url, 10, trust)
        try:
            return await link.ask(("PING",))
        finally:
            link.close()

    assert asyncio.run(open_and_ask(tls_redis.url_of(), str(authority.certificate))) == b"PONG"
    assert asyncio.run(open_and_ask(tls_redis.url_of("127.0.0.1"), "any")) == b"PONG"
    for url, trust in (
        (tls_redis.url_of(), None),
        (tls_redis.url_of("127.0.0.1"), str(authority.certificate)),
    ):
        with pytest.raises(Exception, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(open_and_ask(url, trust))


def test_a_whole_fleet_works_over_tls(world: World) -> None:
    world.environment["BOOK_URL"] = f"{world.settings.redis_url}?ssl_cert_reqs=none"
    world.start_archiver()
    world.start_fleet(1)
    awaited = Event(project_id="P", type="ASYNC_WORK", actor="t", payload={"emit": 2})
    more = [Event(project_id="P", type="PLAIN_WORK", actor="t", payload={"text": "x" * 200_000}) for _ in range(40)]

    async def publish() -> None:
        bus = EventBus(world.settings)
        await bus.publish(awaited)
        await bus.publish(Event(project_id="P", type="OTHER", actor="t"))
        await bus.publish_many(more)
        await bus.disconnect()

    asyncio.run(publish())
    world.until_settled("Async", "Plain")
    archive = world.backend.archive
    wait_until(lambda: archive.highest_position() >= world.backend.history.clock_and_archived()[0] - 1, 30, "SQL")

    assert world.runs("Plain", of=more).total() == len(more)
    assert world.runs("Async", of=[awaited]).total() == 1


def test_a_worker_that_does_not_trust_its_server_ends_with_3_and_says_why(tls_redis: TlsRedis, world: World) -> None:
    world.environment.pop("EVENTBUS_REDIS_TRUST")
    worker = world.run([sys.executable, "-P", "-m", "workers.process", "--app", "tests.fleet.app:bus"])

    assert worker.wait(60) == 3
    assert "EVENTBUS_REDIS_TRUST" in world.log()


# PostgreSQL


def read(url: str) -> object:
    engine = open_engine(url, timeout_s=10)
    try:
        with reading(engine) as connection:
            return connection.exec_driver_sql("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").scalar()
    finally:
        engine.dispose()


def url_on(server: DebianPostgres, host: str, **query: object) -> str:
    port = server.url().rpartition(":")[2]
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"postgres://postgres:sesame@{host}:{port}?{asked}"


def test_verify_full_takes_the_certificate_of_a_known_authority_for_the_right_host(
    tls_postgres: DebianPostgres, authority: Authority
) -> None:
    url = url_on(tls_postgres, "localhost", sslmode="verify-full", sslrootcert=authority.certificate)

    assert read(url) is True


@pytest.mark.parametrize(
    ("host", "trusted", "says"),
    [
        ("localhost", "another's", "certificate verify failed"),
        ("127.0.0.1", "its own", 'does not match host name "127.0.0.1"'),
        ("localhost", "no file", "root certificate file"),
    ],
)
def test_verify_full_refuses_every_other_and_the_switch_is_named(
    tls_postgres: DebianPostgres, authority: Authority, tmp_path: Path, host: str, trusted: str, says: str
) -> None:
    files = {
        "its own": authority.certificate,
        "another's": Authority(tmp_path).certificate,
        "no file": tmp_path / "missing.pem",
    }

    with pytest.raises(StoreUnavailable) as caught:
        read(url_on(tls_postgres, host, sslmode="verify-full", sslrootcert=files[trusted]))

    assert says in str(caught.value)
    assert "sslrootcert in the query of DATABASE_URL" in str(caught.value)
    assert "sesame" not in str(caught.value)


def test_require_encrypts_and_takes_a_certificate_that_nobody_has_signed(tls_postgres: DebianPostgres) -> None:
    assert read(url_on(tls_postgres, "127.0.0.1", sslmode="require")) is True


def test_require_refuses_a_server_without_tls() -> None:
    server = PostgresServer().start()
    try:
        with pytest.raises(StoreUnavailable, match="server does not support SSL, but SSL was required") as caught:
            read(f"{server.url()}?sslmode=require")
    finally:
        server.stop()

    assert "sslmode (PGSSLMODE)" in str(caught.value)
