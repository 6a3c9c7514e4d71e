"""Answers made smaller for clients that can read gzip: static files, and the API's JSON.

Not live streams, whose messages are to leave at once; not pages, which show what was asked beside what is secret, so
that their length would tell one by the other (BREACH, 2013).
"""

from __future__ import annotations

import asyncio
import gzip

from starlette.datastructures import Headers
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

LEAST_BYTES = 1000
LEVEL = 6


async def compressed(request: Request, response: Response) -> Response:
    """Return an answer that has its whole body, compressed if that is worth it and the client reads it.

    It is done on a thread: eight megabytes of history take a fifth of a second.
    """
    if isinstance(response, StreamingResponse) or len(response.body) < LEAST_BYTES:
        return response
    response.headers.add_vary_header("Accept-Encoding")
    if _reads_gzip(request.headers):
        body = await asyncio.to_thread(gzip.compress, response.body, LEVEL, mtime=0)
        response.body = body
        response.headers["Content-Encoding"] = "gzip"
        response.headers["Content-Length"] = str(len(body))
    return response


def compressed_files(files: ASGIApp) -> ASGIApp:
    """Return static files, compressed for who reads it."""
    return GZipMiddleware(files, minimum_size=LEAST_BYTES, compresslevel=LEVEL)


def _reads_gzip(headers: Headers) -> bool:
    """Tell whether a client takes gzip. Source: RFC 9110, 12.5.3."""
    parts = (part.partition(";q=") for part in headers.get("accept-encoding", "").lower().replace(" ", "").split(","))
    weights = {name: weight or "1" for name, _, weight in parts}
    return weights.get("gzip", weights.get("*", "0")).strip("0.") != ""
