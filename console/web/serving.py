"""Runs the web application under uvicorn: one process, one event loop, until SIGTERM or SIGINT."""

from __future__ import annotations

from types import FrameType

import uvicorn

from console.web.access import Tokens, check
from console.web.app import Web
from events.settings import Settings

GRACE_S = 10


class _Server(uvicorn.Server):
    """A server that ends live streams when it is told to end: they would never end by themselves."""

    def __init__(self, config: uvicorn.Config, web: Web) -> None:
        super().__init__(config)
        self._web = web

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._web.close()
        super().handle_exit(sig, frame)


def serve(settings: Settings, host: str, port: int, log_level: str) -> None:
    """Serve until a signal ends it; what is under way gets `GRACE_S` seconds.

    Raises:
        InvalidSettings: others than this machine would be served without a token, or a token is too short.
        SystemExit: the port is taken.
    """
    check(Tokens(settings.web_token, settings.web_read_token), host)
    web = Web(settings)
    config = uvicorn.Config(
        web.app,
        host=host,
        port=port,
        log_level=log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
        http="h11",
    )
    _Server(config, web).run()
