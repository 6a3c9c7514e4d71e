"""`eventbus web`: the console and the HTTP API."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated

import typer

from console.fleet import log_to_stderr
from console.options import LogLevel, log_level

if TYPE_CHECKING:
    from events.schemas import Schemas

MAX_PORT = 65_535


def command(
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Where to listen; 0.0.0.0 is every address.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            "--port", min=0, max=MAX_PORT, metavar="N", help="0 is any free one.", show_default="PORT, else 8080"
        ),
    ] = None,
    level: LogLevel = "info",
) -> None:
    """Serve the console and the HTTP API.

    The console is at /, the API at /api/v1 (its OpenAPI document at /api/v1/openapi.json), Prometheus's metrics at
    /metrics, and /livez and /readyz tell a host how it is. Any number of these processes may run.

    On a loopback address it needs no token, and answers this machine alone. Anywhere else it does not start without
    EVENTBUS_WEB_TOKEN, which makes an operator; EVENTBUS_WEB_READ_TOKEN makes a reader, who may change nothing.

    Where EVENTBUS_APP names an application, what is published over HTTP is held against its payload models; it is
    loaded in this process for that, and nothing of it runs.

    \b
    Examples:
      eventbus web
      EVENTBUS_WEB_TOKEN=... eventbus web --host 0.0.0.0 --port 8080
      curl -H "Authorization: Bearer $EVENTBUS_WEB_TOKEN" http://localhost:8080/api/v1/lag
    """
    from console.application import payload_models
    from console.web.serving import serve
    from events.settings import Settings

    settings = Settings.from_env()
    log_to_stderr(settings, log_level(level))
    models = payload_models(settings)
    if models is not None:
        _say(settings.app, models)
    serve(settings, host, settings.web_port if port is None else port, log_level(level), models)


def _say(app: str | None, models: Schemas) -> None:
    log = logging.getLogger("eventbus.web")
    if models.types:
        log.info("Payloads are held against the models of %s: %s.", app, ", ".join(sorted(models.types)))
    else:
        log.info("%s has no payload models: a payload is whatever its publisher puts there.", app)
