"""An authority of the tests' own, and a Redis and a PostgreSQL that speak TLS with its certificates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.conftest import fleet  # noqa: F401 - the fixture
from tests.security.authority import OPENSSL, Authority, Certificate
from tests.security.planted import Servers, servers
from tests.servers import DebianPostgres
from tests.valkey_servers import DebianRedis, free_port


@pytest.fixture(scope="module")
def planted() -> Iterator[Servers]:
    """Servers that want the planted passwords."""
    made = servers()
    try:
        yield made
    finally:
        made.valkey.stop()
        made.postgres.stop()


class TlsRedis(DebianRedis):
    """Debian's Redis with a plain port, over which it is started and watched, and one that speaks TLS.

    Attributes:
        tls_port: where it speaks TLS.
    """

    def __init__(self, certificate: Certificate, password: str) -> None:
        self.tls_port = free_port()
        super().__init__(
            options={
                "tls-port": str(self.tls_port),
                "tls-cert-file": str(certificate.certificate),
                "tls-key-file": str(certificate.key),
                "tls-ca-cert-file": str(certificate.certificate),
                "tls-auth-clients": "no",
            }
        )
        self.password = password

    def url_of(self, host: str = "localhost", query: str = "", scheme: str = "rediss") -> str:
        """Return a URL of the port that speaks TLS."""
        return f"{scheme}://default:{self.password}@{host}:{self.tls_port}/0{query}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    if OPENSSL is None:
        pytest.skip("Not run: the program openssl, which makes the certificates, is not installed.")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_redis(authority: Authority) -> Iterator[TlsRedis]:
    """Debian's Redis with a certificate for `localhost`."""
    if not DebianRedis.available():
        pytest.skip("Not run: Debian's Redis (/usr/bin/redis-server), which speaks TLS, is not installed.")
    with TlsRedis(authority.sign("DNS:localhost"), password="") as server:
        yield server


@pytest.fixture(scope="module")
def tls_postgres(authority: Authority) -> Iterator[DebianPostgres]:
    """Debian's PostgreSQL with a certificate for `localhost`; the wheel's is built without TLS."""
    if not DebianPostgres.available():
        pytest.skip("Not run: TLS with Debian's PostgreSQL, which is not in /usr/lib/postgresql.")
    made = authority.sign("DNS:localhost")
    key = _for_the_servers_user(made.key)
    try:
        server = DebianPostgres(
            {"ssl": "on", "ssl_cert_file": str(_readable(made.certificate, key.parent)), "ssl_key_file": str(key)}
        ).start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(key.parent)


def _for_the_servers_user(key: Path) -> Path:
    """Copy a key to where only the user can read it as whom PostgreSQL runs: it refuses any other."""
    folder = Path("/tmp") / f"eventbus-test-key-{os.getpid()}"
    folder.mkdir()
    copy = Path(shutil.copy(key, folder))
    copy.chmod(0o600)
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
        shutil.chown(copy, "nobody")
    return copy


def _readable(certificate: Path, folder: Path) -> Path:
    return Path(shutil.copy(certificate, folder))
