"""`eventbus demo`: a story becomes an animated storyboard, through the whole pipeline."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console.exits import FAILED, Mistake, complain
from console.options import Json
from console.printing import print_json

if TYPE_CHECKING:
    from events.settings import Settings

Out = Annotated[
    Path, typer.Option("--out", metavar="DIR", help="Where the files go; those of an earlier run are replaced.")
]
Home = Annotated[
    str | None,
    typer.Option(
        "--home", metavar="DIR", help="Data of the embedded servers.", show_default="EVENTBUS_HOME, else .eventbus"
    ),
]
Timeout = Annotated[float, typer.Option("--timeout", min=1, metavar="S", help="Give up after so many seconds.")]


def command(
    story: Annotated[
        str | None,
        typer.Argument(metavar="STORY.txt", help="A text in UTF-8.", show_default="a fable that is included"),
    ] = None,
    out: Out = Path("storyboard-out"),
    home: Home = None,
    timeout: Timeout = 180.0,
    as_json: Json = False,
) -> None:
    """Take a story through the whole pipeline.

    Starts an embedded Valkey and SQLite (or uses REDIS_URL and DATABASE_URL, a database that
    `eventbus migrate` must have prepared), two worker processes and an archiver. Eight agents turn the
    text into scenes, shots, pictures, previews and music, and an editor cuts them together; a long story
    is condensed to 8 scenes and 12 shots. At the end: the files, what caused what with cost and latency,
    numbers per event type, and commands that look further into what the run left.

    \b
    Examples:
      eventbus demo
      eventbus demo my-story.txt --out my-storyboard
    """
    from events.settings import Settings
    from examples.storyboard.story import FABLE, StoryError, load_story

    try:
        text = load_story(story or FABLE)
    except StoryError as error:
        raise Mistake(str(error)) from None
    settings = Settings.from_env()
    given_home = home or settings.home
    settings = settings.with_(home=str(Path(given_home).expanduser().absolute()), database_url=_from_here(settings))
    _make(out, "--out")
    _make(Path(settings.home), "--home")
    _run(text.title, text.text, out, settings, given_home, timeout, as_json)


def _run(title: str, text: str, out: Path, settings: Settings, given_home: str, timeout: float, as_json: bool) -> None:
    from console.demo import report
    from console.demo.notes import notes
    from console.demo.progress import Progress
    from console.demo.run import Failed, pipeline, tell
    from console.opening import opened
    from examples.storyboard.app import opening_event

    opening = opening_event(title, text, out.absolute(), f"demo-{secrets.token_hex(3)}")
    try:
        with pipeline(settings) as (bus, fleet):
            print(f"{title}: taking it through the pipeline, two worker processes.", file=sys.stderr, flush=True)
            progress = Progress([subscription.name for subscription in bus.subscriptions])
            with progress.showing():
                told = tell(bus, fleet, opening, progress, timeout)
    except Failed as failure:
        complain(str(failure))
        raise typer.Exit(FAILED) from None
    except KeyboardInterrupt:
        complain("interrupted; the next `eventbus demo` here also finishes what was begun.")
        raise
    commands = report.commands(told, settings, given_home)
    with opened(settings) as backend:
        if as_json:
            print_json(report.report_object(backend, told, commands))
        else:
            report.print_report(backend, told, commands)
    sys.stdout.flush()
    for note in notes(text, told):
        print(f"Note: {note}", file=sys.stderr)


def _from_here(settings: Settings) -> str | None:
    """Return the database's URL; a relative SQLite file is named from the root, because workers start elsewhere."""
    url = settings.database_url
    if url and url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
        return f"sqlite:///{Path(url.removeprefix('sqlite:///')).absolute()}"
    return url


def _make(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Mistake(f"{option} {folder} cannot be a directory: {error.strerror}.") from None
