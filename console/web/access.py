"""Who asks, and what he may do: loopback without tokens, else a token in a header or the cookie of a login.

Tokens are compared by their digests in constant time. A session is a signed cookie; its key is made of the
tokens, so that changing one ends every session, and every web process reads what another has signed. Whoever sees a
cookie may try tokens against its signature where nobody counts; so the key is made slowly (scrypt, once, at start),
and a try costs as much.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.requests import HTTPConnection

from console.web.guesses import Guesses
from events.errors import InvalidSettings

COOKIE = "eventbus_session"
SESSION_S = 43_200
MIN_TOKEN_CHARS = 16
_MAX_NAME_CHARS = 100
# 32 MB and a tenth of a second, once. Source: RFC 7914.
_SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26, "dklen": 32}
# What proxies add to a request that they pass on.
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via")


class Role(IntEnum):
    """What somebody may do; a greater one may do what a lesser one may."""

    READER = 1
    OPERATOR = 2


@dataclass(frozen=True, slots=True)
class Who:
    """Somebody who may ask.

    Attributes:
        name: what he calls himself, for the audit log; nobody checks it.
        role: what he may do.
    """

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a web process; None where none is set. Neither is shown by `repr`."""

    operator: str | None
    reader: str | None

    def __repr__(self) -> str:
        return f"Tokens(operator={'***' if self.operator else None}, reader={'***' if self.reader else None})"

    @property
    def are_set(self) -> bool:
        """Whether anybody has to name one."""
        return bool(self.operator or self.reader)


def check(tokens: Tokens, host: str) -> None:
    """Refuse to serve others than this machine without a token.

    Raises:
        InvalidSettings: there is no token and the address is not a loopback one; or a token is too short.
    """
    for name, token in (("EVENTBUS_WEB_TOKEN", tokens.operator), ("EVENTBUS_WEB_READ_TOKEN", tokens.reader)):
        if token is not None and len(token) < MIN_TOKEN_CHARS:
            raise InvalidSettings(
                f"{name} has {len(token)} characters, and needs {MIN_TOKEN_CHARS} at least: make one with "
                '`python -c "import secrets; print(secrets.token_urlsafe(32))"`.'
            )
    if tokens.operator is not None and tokens.operator == tokens.reader:
        raise InvalidSettings("EVENTBUS_WEB_TOKEN and EVENTBUS_WEB_READ_TOKEN are the same: give readers another one.")
    if not tokens.are_set and not is_loopback(host):
        raise InvalidSettings(
            f"Bound to {host}, the web process would let everybody who reaches it operate the bus: set "
            "EVENTBUS_WEB_TOKEN, or bind it to 127.0.0.1."
        )


class Access:
    """Tells who sends a request.

    Args:
        tokens: those that are accepted; none means that this machine is trusted.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._guesses = Guesses()
        self._sessions = URLSafeTimedSerializer(_session_key(tokens), salt="eventbus.session")

    def who(self, connection: HTTPConnection) -> Who | None:
        """Return who sends a request; None when he has not said it, or may do nothing."""
        if not self.tokens.are_set:
            return Who("local", Role.OPERATOR) if _is_local(connection) else None
        name, token = _credentials(connection.headers)
        if token is not None:
            role = self.role_of(token, connection)
            return None if role is None else Who(name, role)
        return self._of_session(connection.cookies.get(COOKIE))

    def role_of(self, token: str, connection: HTTPConnection) -> Role | None:
        """Return the role that a token gives; None when it is none of ours, or is not looked at (`deaf_s`)."""
        if self.deaf_s(connection):
            return None
        given, found = _digest(token), None
        for own, role in ((self.tokens.reader, Role.READER), (self.tokens.operator, Role.OPERATOR)):
            if own is not None and hmac.compare_digest(given, _digest(own)):
                found = role
        if found is None:
            self._guesses.wrong(_address(connection), given)
        return found

    def deaf_s(self, connection: HTTPConnection) -> float:
        """Return for how many seconds more no token from there is looked at, because it named too many wrong ones."""
        return self._guesses.deaf_s(_address(connection))

    def session(self, who: Who) -> str:
        """Return the value of a cookie that says who somebody is for `SESSION_S`."""
        return self._sessions.dumps([who.name, int(who.role)])

    def _of_session(self, cookie: str | None) -> Who | None:
        if not cookie:
            return None
        try:
            name, role = self._sessions.loads(cookie, max_age=SESSION_S)
            return Who(str(name), Role(role))
        except (BadSignature, TypeError, ValueError):
            return None


def is_loopback(host: str) -> bool:
    """Tell whether a name or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(header: str) -> str:
    """Return the name in a `Host` header, without its port."""
    name, colon, port = header.rpartition(":")
    return name if colon and port.isdecimal() else header


def clean_name(name: str) -> str:
    """Return what somebody calls himself, fit for a log."""
    return "".join(char if char.isprintable() else "?" for char in name)[:_MAX_NAME_CHARS]


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _is_local(connection: HTTPConnection) -> bool:
    """Tell whether a request comes from this machine, to a name of this machine, and for nobody elsewhere.

    A proxy on this machine names its own address and often a name of this machine. What it says of whom it asks for
    is not believed, since anybody may have said it; that it says so is enough.
    """
    client, headers = connection.client, connection.headers
    is_forwarded = any(name in headers for name in FORWARDED)
    return (
        client is not None
        and not is_forwarded
        and is_loopback(client.host)
        and is_loopback(host_of(headers.get("host", "")))
    )


def _credentials(headers: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the name and the token of an `Authorization` header; no token when there is none that can be read."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    given = given.strip()
    if scheme.lower() == "bearer":
        return "token", given
    if scheme.lower() == "basic":
        try:
            name, _, token = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return "", ""
        return clean_name(name) or "token", token
    return "", None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="surrogatepass")).digest()


def _session_key(tokens: Tokens) -> bytes:
    """Return the key that signs sessions; without tokens there are none, and nothing that is signed is ours."""
    if not tokens.are_set:
        return secrets.token_bytes(32)
    secret = f"{tokens.operator}\0{tokens.reader}".encode(errors="surrogatepass")
    return hashlib.scrypt(secret, salt=b"eventbus.session", **_SCRYPT)
