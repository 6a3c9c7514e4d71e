"""What every request passes: no other site's page may change something, no body is endless or drips, and every
response, a bug's too, carries the headers that keep a browser from being used against its user.

Cross-origin requests are told by what browsers say of them and pages cannot forge. Source: Fetch Metadata (W3C),
`Sec-Fetch-Site`; the Origin header, RFC 6454.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web.connections import CROWDED, MOST_CONNECTIONS
from console.web.problems import BUG, problem_response, refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
HEALTH = frozenset({"/livez", "/readyz"})
FORM_BYTES = 16_384
BODY_S, BODY_BYTES_A_S = 20.0, 10_000
CROWDED_RETRY_S = 10
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guards:
    """ASGI middleware around the whole application, what answers its bugs included.

    Args:
        api: the path under which bodies may be large; elsewhere they are forms.
        max_body_bytes: most bytes that a request to the API may send.
    """

    def __init__(self, app: ASGIApp, api: str, max_body_bytes: int) -> None:
        self._app = app
        self._api = api
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _Guarded(send, scope)
        most = self._max_body_bytes if scope["path"].startswith(self._api) else FORM_BYTES
        try:
            check_request(scope)
            await self._app(scope, _limited(receive, Headers(scope=scope), most), guarded)
        except HTTPException as error:
            await problem_response(error)(scope, receive, guarded)
        except Exception:
            if not guarded.has_begun:  # even what answers bugs has one
                await problem_response(refused(500, BUG))(scope, receive, guarded)
            raise


def check_request(scope: Scope) -> None:
    """Refuse what no operation and no page is asked.

    Raises:
        HTTPException: 503 of a connection too many, but to who asks after health; 400 of what holds U+0000, which no
            name here does and no database is asked for; 403 of another site's page.
    """
    if scope.get("state", {}).get(CROWDED) and scope["path"] not in HEALTH:
        sentence = f"This web process has {MOST_CONNECTIONS} connections, its most: ask again later, or start another."
        raise refused(503, sentence, {"Retry-After": str(CROWDED_RETRY_S), "Connection": "close"})
    if b"%00" in scope.get("raw_path", b"") or b"%00" in scope["query_string"]:
        raise refused(400, "The address holds the character U+0000, which nothing here does.")
    if scope["method"] not in SAFE:
        check_origin(Headers(scope=scope))


def check_origin(headers: Headers) -> None:
    """Refuse a request that a browser sends for a page of another site.

    Raises:
        HTTPException: 403.
    """
    site = headers.get("sec-fetch-site")
    if site is not None:
        if site in ("same-origin", "none"):
            return
        raise refused(
            403, f"A browser sent this for a page of another site (Sec-Fetch-Site: {site[:40]}): nothing was done."
        )
    origin = headers.get("origin")
    if origin is not None and _place(origin) != headers.get("host", "").lower():
        raise refused(403, f"A browser sent this for a page of {origin[:120]}: nothing was done.")


def _place(origin: str) -> str | None:
    """Return the host and port of an origin; None when it is none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _limited(receive: Receive, headers: Headers, most: int) -> Receive:
    """Return a `receive` that ends a request whose body is longer than `most` bytes, or drips.

    Raises:
        HTTPException: 413, at once when the request says its length; 408 when the body has not come after `BODY_S`
            and the time that it may take at `BODY_BYTES_A_S`.
    """
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise refused(413, f"The body has {length[:20]} bytes, and may have {most:,}.")
    began, got, is_whole = time.monotonic(), 0, False

    async def limited() -> Message:
        nonlocal got, is_whole
        if is_whole:  # what comes now is that the client has gone, whenever that is
            return await receive()
        left_s = began + BODY_S + got / BODY_BYTES_A_S - time.monotonic()
        try:
            async with asyncio.timeout(left_s):
                message = await receive()
        except TimeoutError:
            raise refused(408, f"The body came too slowly: {got:,} bytes.", {"Connection": "close"}) from None
        got += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if got > most:
            raise refused(413, f"The body is longer than the {most:,} bytes that it may have.")
        return message

    return limited


class _Guarded:
    """A `send` that adds the headers; `has_begun` tells whether an answer has."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._is_asset = scope["path"].startswith("/static/")
        self._is_secure = scope["scheme"] == "https"
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # An asset is kept, and asked about each time: another version's would not fit the pages.
            headers.setdefault("Cache-Control", "no-cache" if self._is_asset else "no-store")
            if self._is_secure:
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await self._send(message)
