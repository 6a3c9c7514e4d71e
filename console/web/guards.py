"""What every request passes: no other site's page may change something, no body is endless, and every response
carries the headers that keep a browser from being used against its user.

Cross-origin requests are told by what browsers say of them and pages cannot forge. Source: Fetch Metadata (W3C),
`Sec-Fetch-Site`; the Origin header, RFC 6454.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from console.web.problems import problem_response, refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
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
    """ASGI middleware around the whole application.

    Args:
        max_body_bytes: most bytes that a request may send.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _with_headers(send, scope)
        try:
            headers = Headers(scope=scope)
            if scope["method"] not in SAFE:
                check_origin(headers)
            await self._app(scope, _limited(receive, headers, self._max_body_bytes), guarded)
        except HTTPException as error:
            await problem_response(error)(scope, receive, guarded)


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
    """Return a `receive` that ends a request whose body is longer than `most` bytes.

    Raises:
        HTTPException: 413, at once when the request says its length.
    """
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise refused(413, f"The body has {length[:20]} bytes, and may have {most:,}.")
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise refused(413, f"The body is longer than the {most:,} bytes that it may have.")
        return message

    return limited


def _with_headers(send: Send, scope: Scope) -> Send:
    is_asset = scope["path"].startswith("/static/")

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            # An asset is kept, and asked about each time: another version's would not fit the pages.
            headers.setdefault("Cache-Control", "no-cache" if is_asset else "no-store")
            if scope["scheme"] == "https":
                headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        await send(message)

    return guarded
