"""The connection to Redis or Valkey: one client per process and purpose, errors mapped here.

redis-py resends a command ten times by default, which doubles whatever is not idempotent; these
clients never resend. What may be sent again is decided by the caller that knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from events.errors import CertificateRefused, InvalidSettings, LoginRefused, RedisUnavailable, ScriptFailed
from events.settings import without_password
from events.trust import mistrust, trusting

Client = redis.Redis

# redis-py turns some error codes into classes and drops the word.
_CODES = {"OutOfMemoryError": "OOM", "ReadOnlyError": "READONLY", "NoPermissionError": "NOPERM"}
# How Redis 7 and Valkey say, of a command inside a script, that the caller may not run it.
_DENIED = ("The user executing the script", "ACL failure in script")
_WORDS = (
    "OOM",
    "READONLY",
    "MISCONF",
    "NOREPLICAS",
    "BUSY",
    "MASTERDOWN",
    "TRYAGAIN",
    "NOGROUP",
    "WRONGTYPE",
    "NOPERM",
)


def connect(url: str, timeout_s: float, trust: str | None = None) -> Client:
    """Make a client; nothing connects before its first command.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        timeout_s: seconds for connecting and for one reply; must exceed every BLOCK.
        trust: as `Settings.redis_trust`.

    Raises:
        InvalidSettings: the URL cannot be read, e.g. its port is not a number, or has an option that there is not;
            or `trust` names no certificate.
    """
    trusted = trusting(url, trust)
    try:
        client: Client = redis.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            health_check_interval=0,
            **trusted,
        )
        pool: Any = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # unknown options show only when one is made
    except (ValueError, TypeError, redis.RedisError):  # its text may quote the password
        raise InvalidSettings(
            f"REDIS_URL cannot be read: {without_password(url)!r}. Write redis://user:password@host:port/0, "
            "with every / ? # [ ] @ % of the password percent-encoded, and after a ? only options that redis-py has."
        ) from None
    return client


class Sent:
    """A command on its way; its reply has to be taken, once."""

    def __init__(self, pool: Any, connection: Any) -> None:
        self._pool = pool
        self._connection = connection

    def give_up(self) -> None:
        """Take no reply: the connection is not used again."""
        self._connection.disconnect()
        self._pool.release(self._connection)

    def reply(self) -> Any:
        """Wait for the reply and return it as it came.

        Raises:
            redis.RedisError, OSError: as `exchange` does.
        """
        try:
            return self._connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            self._connection.disconnect()
            raise
        finally:
            self._pool.release(self._connection)


def send(client: Client, *command: str | bytes | int) -> Sent:
    """Send one command; the caller does something else until it takes the reply.

    Raises:
        redis.RedisError, OSError: as `exchange` does.
    """
    pool = client.connection_pool
    connection: Any = pool.get_connection()
    try:
        connection.send_packed_command((hiredis.pack_command(command),))  # type: ignore[arg-type]
    except BaseException:
        connection.disconnect()
        pool.release(connection)
        raise
    return Sent(pool, connection)


def exchange(client: Client, *command: str | bytes | int) -> Any:
    """Send one command and return its reply as it came.

    What `client.execute_command` does around it (retries, metrics, callbacks) costs as much CPU as the command.

    Raises:
        redis.RedisError, OSError: as redis-py raises them, see `mapped`; a connection that failed is not used again.
    """
    return send(client, *command).reply()


def reachable_name(client: Client) -> str:
    """Return the client's URL fit for messages, without its password."""
    options = client.connection_pool.connection_kwargs
    if options.get("path"):
        return f"unix://{options['path']}"
    scheme = "rediss" if "SSL" in client.connection_pool.connection_class.__name__ else "redis"
    return without_password(f"{scheme}://{options.get('host')}:{options.get('port')}/{options.get('db', 0)}")


@contextmanager
def mapped(client: Client) -> Iterator[None]:
    """Turn redis-py's exceptions into ours; nothing of the driver leaves this floor.

    Raises:
        RedisUnavailable: on connection failures, time-outs, and a server that is still loading;
            `LoginRefused` when it refused the user or the password, `CertificateRefused` when we refuse it.
        ScriptFailed: on any error reply, with its code.
    """
    try:
        yield
    except redis.AuthenticationError as error:
        raise LoginRefused(
            f"Redis at {reachable_name(client)} refused the login ({error}). Check user and password in REDIS_URL."
        ) from None
    except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
        if isinstance(error, RedisUnavailable):
            raise
        if why := mistrust(error):
            raise CertificateRefused(f"Redis at {reachable_name(client)} {why}") from None
        raise RedisUnavailable(
            f"Redis at {reachable_name(client)} cannot be reached ({error}). Check REDIS_URL and that the server runs."
        ) from None
    except redis.RedisError as error:
        text = str(error)
        code = _CODES.get(type(error).__name__) or next((word for word in _WORDS if word in text), "ERR")
        if any(words in text for words in _DENIED):
            code = "NOPERM"
        raise ScriptFailed(f"Redis at {reachable_name(client)} refused the command: {text.strip()}", code) from None
