"""Settings: every variable is read, every bad value is named, no password is ever shown."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.connection import connect
from events.errors import InvalidSettings
from events.settings import Settings, variable, without_password

EXAMPLES: dict[str, tuple[str, object]] = {
    "redis_url": ("redis://cache:6379/2", "redis://cache:6379/2"),
    "database_url": ("postgres://u@db/events", "postgres://u@db/events"),
    "redis_trust": ("/etc/ssl/bus.pem", "/etc/ssl/bus.pem"),
    "home": ("/var/lib/bus", "/var/lib/bus"),
    "namespace": ("studio", "studio"),
    "app": ("pipeline:bus", "pipeline:bus"),
    "lease_s": ("2.5", 2.5),
    "dedupe_s": ("60", 60.0),
    "max_event_bytes": ("4096", 4096),
    "max_routes": ("7", 7),
    "reset_wait_s": ("0", 0.0),
    "timeout_s": ("1e1", 10.0),
    "grace_s": ("3", 3.0),
    "processes": ("4", 4),
    "max_events_per_process": ("1000", 1000),
    "threads": ("16", 16),
    "concurrency": ("9", 9),
    "history_margin_s": ("0.5", 0.5),
    "archive_batch": ("10", 10),
    "sql_pool_size": ("2", 2),
    "tracing": ("opentelemetry", "opentelemetry"),
    "web_port": ("80", 80),
    "web_token": ("a-token-of-an-operator", "a-token-of-an-operator"),
    "web_read_token": ("a-token-of-a-reader", "a-token-of-a-reader"),
    "log_format": ("json", "json"),
}
NUMBERS = [field.name for field in fields(Settings) if isinstance(field.default, int | float)]


def test_every_field_has_an_example_here_and_a_variable_in_its_documentation() -> None:
    assert set(EXAMPLES) == {field.name for field in fields(Settings)}
    for name in EXAMPLES:
        assert f"{name}: `{variable(name)}`" in (Settings.__doc__ or "")


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_variable_sets_its_field_and_no_other(name: str) -> None:
    text, value = EXAMPLES[name]

    settings = Settings.from_env({variable(name): f" {text} "})

    assert settings == Settings(**{name: value})
    assert settings != Settings()


def test_an_empty_environment_gives_the_defaults_and_empty_variables_count_as_absent() -> None:
    assert Settings.from_env({}) == Settings.from_env({variable(name): " " for name in EXAMPLES}) == Settings()


def test_the_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVENTBUS_THREADS", "3")

    assert Settings.from_env().threads == 3


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["many", "nan", "inf", "-1", "1,5", "true"])
def test_a_bad_number_is_named_with_its_variable(name: str, text: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings.from_env({variable(name): text})

    assert str(caught.value).startswith(f"{variable(name)} must be a")
    assert text in str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("value", ["5", None, True, -1, float("nan")])
def test_a_bad_argument_is_named_with_its_variable(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettings, match=variable(name)):
        Settings(**{name: value})


def test_a_count_must_be_whole() -> None:
    with pytest.raises(InvalidSettings, match=r"EVENTBUS_THREADS must be a whole number of at least 1, not 1\.5"):
        Settings(threads=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", ["", "a b", "a{b", "a}b", "a\tb", "a\nb", "\ud800", None])
def test_a_bad_namespace_is_named(namespace: Any) -> None:
    with pytest.raises(InvalidSettings, match="EVENTBUS_NAMESPACE must be printable"):
        Settings(namespace=namespace)


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("redis_url", "http://user:s3cret@host"),
        ("redis_url", "user:s3cret@host:6379"),
        ("redis_url", "localhost:6379"),
        ("redis_url", 6379),
        ("database_url", "mysql://user:s3cret@host/db?password=s3cret"),
        ("database_url", "host=db password=s3cret"),
        ("database_url", "postgresql+asyncpg://user:s3cret@host/db"),
    ],
)
def test_a_url_of_another_kind_is_named_without_its_password(name: str, url: Any) -> None:
    with pytest.raises(InvalidSettings) as caught:
        Settings(**{name: url})

    assert variable(name) in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:s3cret@host:port/0",
        "redis://u:s3c[ret@host/0",
        "redis://u:s3cret@h/0?db=first",
        "redis://u:s3cret@h/0?passwort=s3cret",
        "redis://u:s3cret@h/0?ssl_cert_reqs=none",
        "rediss://u:s3cret@h/0?ssl_cert_reqs=s3cret",
    ],
)
def test_a_redis_url_that_cannot_be_read_is_a_settings_error_without_the_password(url: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        connect(url, 1.0)

    assert "REDIS_URL cannot be read" in str(caught.value)
    assert "s3c" not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:s3cret@host:6379/1", "redis://user:***@host:6379/1"),
        ("redis://:s3cret@host", "redis://:***@host"),
        ("rediss://default:s3%40cret@host/0?ssl_cert_reqs=none", "rediss://default:***@host/0"),
        ("redis://host/0?password=s3cret&db=1", "redis://host/0"),
        ("redis://host/0?password=s3cret@home", "redis://***"),
        ("unix:///run/valkey.sock?password=s3cret", "unix:///run/valkey.sock"),
        ("unix://user:s3cret@/run/valkey.sock", "unix://user:***@/run/valkey.sock"),
        ("postgresql://user:s3cret@[::1]:5432/db?sslmode=require", "postgresql://user:***@[::1]:5432/db"),
        ("postgresql+psycopg2://u:s3cret@/db?host=/tmp", "postgresql+psycopg2://u:***@/db"),
        ("postgresql://u:s3cret@a:1,b:2/db", "postgresql://u:***@a:1,b:2/db"),
        ("postgresql:///db?user=u&password=s3cret", "postgresql:///db"),
        ("sqlite:////var/lib/bus/eventbus.db?key=s3cret", "sqlite:////var/lib/bus/eventbus.db"),
        ("sqlite:////home/me@work/eventbus.db", "sqlite:////home/me@work/eventbus.db"),
        ("redis://user:s3/cret@host/0", "redis://user:***@host/0"),
        ("redis://user:s3@cret@host/0", "redis://user:***@host/0"),
        ("redis://user:s3?cret@host/0", "redis://***"),
        ("redis://user:s3#cret@host/0", "redis://***"),
        ("redis://user:s3[cret@host/0", "redis://user:***@host/0"),
        ("redis://host/0#s3cret", "redis://host/0"),
        ("//user:s3cret@host", "//user:***@host"),
        ("user:s3cret@host", "user:***@host"),
        ("host=db password=s3cret", "host"),
        ("redis://host:6379/0", "redis://host:6379/0"),
    ],
)
def test_a_url_in_a_message_has_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert without_password(shown) == shown


@given(
    scheme=st.sampled_from(["redis://", "rediss://", "postgresql://", "postgres://", "", "//"]),
    user=st.sampled_from(["", "user"]),
    password=st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1).map(
        lambda middle: f"PW{middle}PW"
    ),
    rest=st.sampled_from(["host", "host:6379/0", "/run/x.sock", "[::1]:5/db", "host/db?a=b", "host/0#x"]),
)
def test_no_password_is_shown_whatever_it_is_made_of(scheme: str, user: str, password: str, rest: str) -> None:
    assert "PW" not in without_password(f"{scheme}{user}:{password}@{rest}")


def test_settings_shown_in_a_traceback_hide_their_urls() -> None:
    settings = Settings(redis_url="redis://u:s3cret@h", database_url="postgresql://u:s3cret@h/db")

    assert "s3cret" not in repr(settings)


def test_settings_are_frozen_and_changed_copies_are_checked() -> None:
    settings = Settings()

    with pytest.raises(FrozenInstanceError):
        settings.threads = 2  # type: ignore[misc]
    assert settings.with_(threads=2).threads == 2
    with pytest.raises(InvalidSettings, match="EVENTBUS_THREADS"):
        settings.with_(threads=0)
