"""`eventbus asyncapi`: the AsyncAPI document of an application."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import Mistake
from console.options import App

if TYPE_CHECKING:
    from events.settings import Settings


def command(
    app: App = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TEXT", help="The application's name; else that of --app.")
    ] = None,
    release: Annotated[str, typer.Option("--release", metavar="TEXT", help="The application's version.")] = "0",
    as_yaml: Annotated[bool, typer.Option("--yaml", help="Print YAML instead of JSON.")] = False,
    observed: Annotated[
        bool, typer.Option("--observed", help="Name who has published each type so far; asks the store.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, which it does anyway unless --yaml is given.")
    ] = False,
) -> None:
    """Print the AsyncAPI 3.0 document of an application.

    Each event type is a channel, with a message for each version of its payload that has a model; each
    subscriber receives, with the options that others notice. Who sends is not in the code: --observed
    takes it from the store. Without it nothing connects. The application is loaded in this process; what
    it prints meanwhile goes to stderr.

    \b
    Examples:
      eventbus asyncapi --app pipeline:bus > asyncapi.json
      eventbus asyncapi --app pipeline:bus --yaml --title "Film pipeline" --release 1.4.0
      eventbus asyncapi --app pipeline:bus --observed
    """
    from console.application import loaded
    from console.asyncapi import document
    from events.settings import Settings

    if as_yaml and as_json:
        raise Mistake("Give either --yaml or --json.")
    target = app or Settings.from_env().app
    bus = loaded(target)
    found = document(
        bus.subscriptions,
        bus.schemas,
        bus.settings,
        title=title or target or "",
        release=release,
        senders=_senders(bus.settings) if observed else (),
    )
    if as_yaml:
        from console.yaml_text import to_yaml

        print(to_yaml(found), end="")
    else:
        print(json.dumps(found, ensure_ascii=False, indent=2))


def _senders(settings: Settings) -> list[tuple[str, str]]:
    from console.opening import opened

    with opened(settings) as backend:
        return backend.blackboard.statistics.senders()
