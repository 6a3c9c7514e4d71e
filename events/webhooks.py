"""Webhooks: a subscriber that sends each event to a URL, signed; retries and dead letters as for any other.

    2xx                               done
    410                               given up: a dead letter at once, whoever listened there does no more
    429, 503 with `Retry-After`       tried again then, within a day, and not before the subscriber's own backoff
    anything else, or no answer       tried again by the subscriber's own backoff, in the end a dead letter

The status alone decides: whoever sent it has the event, or has not, whatever comes of the rest of the answer.
The body is a CloudEvent in the JSON format. Source of the headers and the signature: Standard Webhooks 1.0
(`webhook-id`, `webhook-timestamp`, `webhook-signature`). The id is the event's, the same in every attempt: a receiver
that has seen it before answers 2xx and does nothing.

Composition: an agent like those of applications. It needs httpx (the extra `webhooks`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import json
import logging
import time
import weakref
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from events.cloudevents import STRUCTURED, to_structured
from events.errors import EventBusError, InvalidSubscription, Retry
from events.event import Event
from events.settings import without_password
from events.subscriptions import check_name
from events.telemetry import headers_for

if TYPE_CHECKING:
    import httpx

# Each attempt that runs may have a connection: how many run is the subscriber's affair (`concurrency`), and one that
# waits for a connection would spend its `timeout_s` on that.
KEPT_CONNECTIONS = 100
TIMEOUT_S = 15.0
MIN_SECRET_BYTES = 24
TOLERANCE_S = 300.0
MOST_RETRY_AFTER_S = 86_400.0
_PREFIX = "whsec_"
_SHOWN_CHARS = 300
_SHOWN_BYTES = 4 * _SHOWN_CHARS


class WebhookFailed(EventBusError):
    """The other side did not take an event; it is tried again."""


class WebhookGone(WebhookFailed):
    """The other side says that it never will again (410); the event becomes a dead letter at once."""


class Webhook:
    """Sends events to a URL: `bus.subscribe(Webhook("Billing", url, secret), types, give_up_on=(WebhookGone,))`.

    Args:
        name: the subscriber's.
        url: `https://`; `http://` only on this machine.
        secret: at least 24 bytes: text as it is, or `whsec_` and base64 of the bytes.
        timeout_s: seconds for one attempt, from the connection to the end of the answer.
        headers: sent too, e.g. an API key.

    Raises:
        InvalidSubscription: naming what is wrong; never the secret.
    """

    def __init__(
        self,
        name: str,
        url: str,
        secret: str,
        *,
        timeout_s: float = TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.name = check_name(name)
        self._url = _checked(url)
        self._key = _key(secret)
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"Webhook({self.name!r}, {without_password(self._url)!r})"

    async def handle_event(self, event: Event) -> None:
        """Send an event, signed.

        Raises:
            WebhookFailed, Retry: it was not taken, or nobody knows.
        """
        body = json.dumps(to_structured(event), ensure_ascii=False).encode()
        signed = sign(self._key, event.event_id, body)
        headers = {**headers_for(event), **self._headers, "content-type": STRUCTURED, **signed}
        answer, said = await self._send(body, headers)
        self._judge(answer, said.decode(errors="replace"))

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> tuple[httpx.Response, bytes]:
        """Return the answer, and what its body begins with: nothing where that is late, cut off or not to be read."""
        import httpx

        answer, said = None, b""
        request = self._client().stream("POST", self._url, content=body, headers=headers)
        try:
            async with asyncio.timeout(self._timeout_s), request as answer:  # httpx's own is for each step, not for all
                said = await _beginning(answer)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            if answer is None:
                raise WebhookFailed(
                    f"{without_password(self._url)} did not answer: {type(error).__name__} {error}".rstrip()
                ) from None
        return answer, said

    def _judge(self, answer: httpx.Response, text: str) -> None:
        if answer.is_success:
            return
        said = f"{without_password(self._url)} answered {answer.status_code}: {text[:_SHOWN_CHARS]!r}"
        if answer.status_code == 410:
            raise WebhookGone(f"{said}; nobody listens there any more.")
        after_s = _retry_after_s(answer.headers.get("retry-after", ""))
        if answer.status_code in (429, 503) and after_s is not None:
            raise Retry(after=after_s, reason=said, at_least=True)
        raise WebhookFailed(said)

    def _client(self) -> httpx.AsyncClient:
        """Return the running loop's client; its connections are kept between events."""
        loop = asyncio.get_running_loop()
        found = self._clients.get(loop)
        if found is None:
            import httpx

            _unsaid.hide(str(httpx.URL(self._url)))
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=KEPT_CONNECTIONS)
            found = httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False, limits=limits)
            self._clients[loop] = found
        return found


class _Unsaid(logging.Filter):
    """Keeps httpx, which logs the URL of each request, from showing what a webhook's has: passwords, keys."""

    def __init__(self) -> None:
        super().__init__()
        self._urls: set[str] = set()

    def hide(self, url: str) -> None:
        """Hide a URL, as httpx writes it, from now on."""
        self._urls.add(url)
        logging.getLogger("httpx").addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(without_password(str(arg)) if str(arg) in self._urls else arg for arg in record.args)
        return True


_unsaid = _Unsaid()


def sign(key: bytes, message_id: str, body: bytes, *, timestamp: int | None = None) -> dict[str, str]:
    """Return the headers that prove who sent a body, and when.

    Args:
        key: the secret's bytes. message_id: percent-encoded where a header cannot hold it.
        timestamp: seconds since 1970; now unless given.
    """
    at = str(int(time.time()) if timestamp is None else timestamp)
    if not message_id.isascii() or message_id != message_id.strip():  # no header holds that
        message_id = quote(message_id)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": at,
        "webhook-signature": f"v1,{_signature(key, message_id, at, body)}",
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, tolerance_s: float = TOLERANCE_S) -> bool:
    """Tell a receiver whether a body came from who has the secret, lately: False is to be answered with 401.

    Args:
        headers: of the request, with names in lower case. tolerance_s: how old or early it may be.
    """
    message_id, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdecimal() or len(at) > 12 or abs(time.time() - int(at)) > tolerance_s:
        return False
    expected = _signature(_key(secret), message_id, at, body).encode()
    given = [each.partition(",") for each in headers.get("webhook-signature", "").split()]
    return any(
        version == "v1" and hmac.compare_digest(signature.encode(errors="replace"), expected)
        for version, _, signature in given
    )


async def _beginning(answer: httpx.Response) -> bytes:
    """Return what an answer begins with; the rest, however long, is not read, and costs the connection."""
    found = b""
    async for some in answer.aiter_bytes():
        found += some[:_SHOWN_BYTES]
        if len(found) >= _SHOWN_BYTES:
            break
    return found


def _signature(key: bytes, message_id: str, at: str, body: bytes) -> str:
    signed = b".".join((message_id.encode(errors="surrogatepass"), at.encode(), body))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidSubscription(
            f"A webhook's URL has no host and port that can be read: {without_password(url)!r:.200}."
        ) from None
    is_local = host == "localhost" or _is_loopback(host)
    if not host or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not is_local):
        raise InvalidSubscription(
            f"A webhook's URL must begin with https:// (http:// on this machine), not {without_password(url)!r:.200}."
        )
    return url


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(secret: str) -> bytes:
    try:
        has_prefix = secret.startswith(_PREFIX)
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True) if has_prefix else secret.encode()
    except (binascii.Error, ValueError):
        raise InvalidSubscription(f"A webhook's secret that begins with {_PREFIX} must go on in base64.") from None
    if len(key) < MIN_SECRET_BYTES:
        raise InvalidSubscription(
            f"A webhook's secret must have at least {MIN_SECRET_BYTES} bytes, and this has {len(key)}."
        )
    return key


def _retry_after_s(text: str) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, a day at most: a number, or a moment.

    Source: RFC 9110, section 10.2.3.
    """
    if text.isdecimal() and len(text) < 10:
        return min(MOST_RETRY_AFTER_S, float(text))
    try:
        return min(MOST_RETRY_AFTER_S, max(0.0, parsedate_to_datetime(text).timestamp() - time.time()))
    except (TypeError, ValueError, OverflowError):
        return None
