"""Settings: one frozen value, read from the environment in one place.

Every field states its unit, its default and what changing it does. Nothing else in the project
reads the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from events.errors import InvalidSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How this process finds its servers and treats its work.

    Attributes:
        redis_url: `REDIS_URL`, `redis://`, `rediss://` or `unix://`. None starts the embedded Valkey.
        redis_trust: `EVENTBUS_REDIS_TRUST`, whose certificate a `rediss://` server may show: the path of a PEM file
            with the authority that signed it, besides the system's; or `any`, which takes every certificate, for
            hosts that sign their own: whoever stands in between can then read and change everything. Default None:
            the system's authorities.
        database_url: `DATABASE_URL`, `postgresql://`, `postgres://` or `sqlite:///`. None uses SQLite
            beside the embedded Valkey.
        home: `EVENTBUS_HOME`, directory of the embedded servers' data. Default `.eventbus`.
        namespace: `EVENTBUS_NAMESPACE`, prefix and hash tag of every Redis key, and the store's
            partition of its tables. One namespace is one total order. Default `eventbus`.
        app: `EVENTBUS_APP`, `module:attribute` with the bus whose subscribers a worker runs, and whose payload models
            `eventbus web` and `eventbus publish` check by. Default None: they check nothing.
        lease_s: `EVENTBUS_LEASE_S`, seconds a silent worker keeps its deliveries. Shorter recovers
            sooner after a kill, and takes work from a worker that stalls longer than this. Default 60.
        dedupe_s: `EVENTBUS_DEDUPE_S`, seconds after archiving for which an event id is remembered in
            Redis. Default 86400.
        max_event_bytes: `EVENTBUS_MAX_EVENT_BYTES`, largest encoded event. Default 1048576.
        max_routes: `EVENTBUS_MAX_ROUTES`, most subscribers of one event type. Default 100.
        reset_wait_s: `EVENTBUS_RESET_WAIT_S`, seconds a publisher waits for workers to declare a lost
            namespace again. Default 10.
        timeout_s: `EVENTBUS_TIMEOUT_S`, seconds before a server that does not answer is given up. Default 5;
            at least 2, because a worker's read of idle queues is answered after up to 0.9 s.
        grace_s: `EVENTBUS_GRACE_S`, seconds a stopping worker gives running handlers. Hosts kill after
            30. Default 25.
        processes: `EVENTBUS_PROCESSES`, worker processes of `eventbus worker`. Default 2.
        max_events_per_process: `EVENTBUS_MAX_EVENTS_PER_PROCESS`, events after which `eventbus worker` replaces a
            process, for handlers that leak; each takes up to a tenth more, so that they do not go together.
            0 never does. Default 0.
        threads: `EVENTBUS_THREADS`, plain handlers that run at once in one process. Default 8.
        concurrency: `EVENTBUS_CONCURRENCY`, async handlers that run at once in one process. Default 400.
        history_margin_s: `EVENTBUS_HISTORY_MARGIN_S`, seconds of archived history kept in Redis. Default 60.
        archive_batch: `EVENTBUS_ARCHIVE_BATCH`, most entries of one archive transaction, which ends at
            8 MB too: the more, the fewer rows of statistics are written for each. Default 5000.
        sql_pool_size: `EVENTBUS_SQL_POOL_SIZE`, SQL connections and reader threads of one process. Default 5.
        tracing: `EVENTBUS_TRACING`, `opentelemetry` makes spans of publishing, processing and settling, exported as the
            `OTEL_` variables say. None makes none, and costs nothing.
        log_format: `EVENTBUS_LOG_FORMAT`, `json` or `text`: what the lines of logs are. None: text on a terminal,
            JSON elsewhere.
        web_port: `PORT`, where `eventbus web` listens. Default 8080.
        web_token: `EVENTBUS_WEB_TOKEN`, makes who names it an operator of the web process. None: only this machine
            is answered, and whoever is on it may do everything. At least 16 characters.
        web_read_token: `EVENTBUS_WEB_READ_TOKEN`, makes who names it a reader, who changes nothing. None: no readers
            but operators. At least 16 characters.
    """

    redis_url: str | None = field(default=None, repr=False)
    redis_trust: str | None = None
    database_url: str | None = field(default=None, repr=False)
    home: str = ".eventbus"
    namespace: str = "eventbus"
    app: str | None = None
    lease_s: float = 60.0
    dedupe_s: float = 86_400.0
    max_event_bytes: int = 1_048_576
    max_routes: int = 100
    reset_wait_s: float = 10.0
    timeout_s: float = 5.0
    grace_s: float = 25.0
    processes: int = 2
    max_events_per_process: int = 0
    threads: int = 8
    concurrency: int = 400
    history_margin_s: float = 60.0
    archive_batch: int = 5000
    sql_pool_size: int = 5
    tracing: str | None = None
    log_format: str | None = None
    web_port: int = 8080
    web_token: str | None = field(default=None, repr=False)
    web_read_token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, lowest in _LOWEST.items():
            value = getattr(self, name)
            kinds, what = (int, "whole number") if name in _WHOLE else (int | float, "number")
            if isinstance(value, bool) or not (isinstance(value, kinds) and lowest <= value < float("inf")):
                raise InvalidSettings(f"{variable(name)} must be a {what} of at least {lowest:g}, not {value!r}.")
        for name, schemes in _SCHEMES.items():
            url = getattr(self, name)
            if url is not None and (not isinstance(url, str) or url.partition("://")[0].lower() not in schemes):
                raise InvalidSettings(
                    f"{variable(name)} must start with one of {', '.join(s + '://' for s in schemes)}, "
                    f"not {without_password(str(url))!r}."
                )
        if self.tracing not in (None, "opentelemetry"):
            raise InvalidSettings(f"EVENTBUS_TRACING must be opentelemetry or nothing, not {self.tracing!r:.80}.")
        if self.log_format not in (None, "json", "text"):
            raise InvalidSettings(f"EVENTBUS_LOG_FORMAT must be json or text, not {self.log_format!r}.")
        if not self.namespace or not self.namespace.isprintable() or set(self.namespace) & set("{} \t"):
            raise InvalidSettings(
                f"EVENTBUS_NAMESPACE must be printable, without spaces or braces, not {self.namespace!r}."
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from the environment; an empty variable counts as absent.

        Raises:
            InvalidSettings: naming the variable and its value.
        """
        environ = os.environ if environ is None else environ
        given: dict[str, Any] = {}
        for setting in fields(cls):
            text = environ.get(variable(setting.name), "").strip()
            if not text:
                continue
            convert = {int: int, float: float}.get(type(setting.default), str)
            try:
                given[setting.name] = convert(text)
            except ValueError:
                what = "whole number" if convert is int else "number"
                raise InvalidSettings(f"{variable(setting.name)} must be a {what}, not {text!r}.") from None
        return cls(**given)

    def with_(self, **changes: Any) -> Settings:
        """Return these settings with some fields changed, checked like new ones."""
        return replace(self, **changes)


def variable(field_name: str) -> str:
    """Name the environment variable that sets a field."""
    return _VARIABLES.get(field_name, f"EVENTBUS_{field_name.upper()}")


def without_password(url: str) -> str:
    """Return a URL fit for messages: its password replaced by `***`, its query dropped.

    A password that was not percent-encoded may hold any character, so nothing here trusts a parser:
    whatever stands between a colon and the last `@` is hidden, and all of it where that is unclear.
    """
    scheme, slashes, rest = url.partition("://") if "://" in url else ("", "", url)
    head, *tail = re.split(r"[?#;\s]" if slashes else r"[?#;\s=]", rest, maxsplit=1)
    if tail and "@" in tail[0]:
        return f"{scheme}{slashes}***"
    user_and_password, at, host = head.rpartition("@")
    user, colon, _ = user_and_password.partition(":")
    return f"{scheme}{slashes}{user}{':***' if colon else ''}{at}{host}"


_VARIABLES = {"redis_url": "REDIS_URL", "database_url": "DATABASE_URL", "web_port": "PORT"}
_LOWEST: dict[str, float] = {
    "lease_s": 0.2,
    "dedupe_s": 0,
    "max_event_bytes": 1024,
    "max_routes": 1,
    "reset_wait_s": 0,
    "timeout_s": 2,
    "grace_s": 0,
    "processes": 1,
    "max_events_per_process": 0,
    "threads": 1,
    "concurrency": 1,
    "history_margin_s": 0,
    "archive_batch": 1,
    "sql_pool_size": 1,
    "web_port": 0,
}
_SCHEMES: dict[str, tuple[str, ...]] = {
    "redis_url": ("redis", "rediss", "unix"),
    "database_url": ("postgresql", "postgres", "postgresql+psycopg2", "sqlite"),
}
_WHOLE = frozenset(setting.name for setting in fields(Settings) if isinstance(setting.default, int))
