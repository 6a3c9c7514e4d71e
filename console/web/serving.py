"""Runs the web application under uvicorn: one process, one event loop, until SIGTERM or SIGINT."""

from __future__ import annotations

import logging
import signal
import socket
from types import FrameType

import uvicorn

from console.web.access import Tokens, check
from console.web.app import Web
from console.web.connections import Connection
from console.web.listening import BACKLOG, listening
from events.schemas import Schemas
from events.settings import Settings

GRACE_S = 10

log = logging.getLogger("uvicorn.error")


class Server(uvicorn.Server):
    """A server that ends live streams when it is told to end: they would never end by themselves.

    Attributes:
        web: what it serves.
    """

    def __init__(self, config: uvicorn.Config, web: Web) -> None:
        super().__init__(config)
        self.web = web
        self.was_interrupted = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; where the sockets are ours uvicorn does not say where they listen."""
        await super().startup(sockets)
        if sockets:
            host, port = self.config.host, sockets[0].getsockname()[1]
            shown = f"[{host}]" if ":" in host else host
            log.info("Uvicorn running on http://%s:%d (Press CTRL+C to quit)", shown, port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End; a second Ctrl-C ends what is under way too. The process's exit code is ours, not the signal's."""
        self.force_exit = self.was_interrupted and sig == signal.SIGINT
        self.was_interrupted |= sig == signal.SIGINT
        self.should_exit = True
        self.web.close()


def serve(settings: Settings, host: str, port: int, log_level: str, models: Schemas | None = None) -> None:
    """Serve until a signal ends it; what is under way gets `GRACE_S` seconds.

    Args:
        models: what payloads are held against when they are published; nothing unless given.

    Raises:
        InvalidSettings: others than this machine would be served without a token, or a token is too short.
        Failed: the port is taken, or cannot be listened at.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    server = made(settings, host, port, log_level, models)
    server.run(listening(host, port))
    if server.was_interrupted:
        raise KeyboardInterrupt


def made(settings: Settings, host: str, port: int, log_level: str, models: Schemas | None = None) -> Server:
    """Return a server that is ready to run.

    Raises:
        InvalidSettings: as `serve` does.
    """
    check(Tokens(settings.web_token, settings.web_read_token), host)
    web = Web(settings, models)
    config = uvicorn.Config(
        web.app,
        host=host,
        port=port,
        backlog=BACKLOG,
        log_config=None,  # its lines are the process's
        log_level=log_level,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        lifespan="on",
        http=Connection,
        ws="none",
    )
    return Server(config, web)
