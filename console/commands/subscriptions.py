"""`eventbus subscriptions`: who is subscribed to what, how they stand, and steering them while they run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from console.confirming import DryRun, Yes
from console.exits import Mistake, code_of, complain, reporting
from console.options import Json, JsonArray, JsonLines, span
from console.printing import console, print_json

if TYPE_CHECKING:
    from events.backend import Backend

group = typer.Typer(
    no_args_is_help=True,
    help="Show, pause, limit and drop subscribers.\n\n"
    "\b\nExamples:\n  eventbus subscriptions list\n  eventbus subscriptions pause --help\n",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The subscriber.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Subscribers.")]
Idle = Annotated[
    str, typer.Option("--idle", metavar="SPAN", help="Call one idle that has had nothing for that long, e.g. 15m, 7d.")
]


@group.command("list")
@reporting
def list_(idle: Idle = "24h", as_json: JsonArray = False) -> None:
    """List subscribers, and what each has before it.

    Also what holds it back, and how many workers take it. One that no live worker takes is called
    orphaned: what comes for it waits.

    \b
    Examples:
      eventbus subscriptions list
      eventbus subscriptions list --idle 7d --json
    """
    from console.opening import reading
    from console.standing import as_object, print_list
    from events.standing import standings

    idle_s = _seconds(idle)
    with reading() as backend:
        found = standings(backend.namespace)
    if as_json:
        print_json([as_object(one, idle_s) for one in found])
    else:
        print_list(console(), found, idle_s)


@group.command("show")
@reporting
def show(name: Name, idle: Idle = "24h", as_json: Json = False) -> None:
    """Show one subscriber in full.

    Also names types that it is routed and that no live worker's code declares any more: they stay until
    `eventbus subscriptions remove-types` says otherwise, so that a deploy loses no events.

    \b
    Examples:
      eventbus subscriptions show ScriptWriter
    """
    from console.opening import reading
    from console.standing import as_object, print_one
    from events.standing import standings

    idle_s = _seconds(idle)
    with reading() as backend:
        (found,) = standings(backend.namespace, [name])
    if as_json:
        print_json(as_object(found, idle_s))
    else:
        print_one(console(), found, idle_s)


@group.command("pause")
@reporting
def pause(names: Names, as_json: JsonLines = False) -> None:
    """Let nothing more begin; what runs, runs on.

    Returns when every worker has said that it starts nothing more, about two seconds later. Events go on
    being queued. It holds over restarts of workers and over the loss of Redis's data, until `resume`.

    \b
    Examples:
      eventbus subscriptions pause ImageMaker
    """
    from console.opening import reading
    from console.steering import pause as pause_one

    with reading() as backend:
        _each(backend, names, pause_one, as_json)


@group.command("resume")
@reporting
def resume(names: Names, as_json: JsonLines = False) -> None:
    """Let a paused subscriber go on, at once.

    \b
    Examples:
      eventbus subscriptions resume ImageMaker
    """
    from console.opening import reading
    from console.steering import resume as resume_one

    with reading() as backend:
        _each(backend, names, resume_one, as_json)


@group.command("set")
@reporting
def set_(
    name: Name,
    concurrency: Annotated[
        str | None,
        typer.Option("--concurrency", metavar="N", help="Most that are ready or run at once; `none`, or `code`."),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="R", help="How many may begin in a second, e.g. 0.5; `none`, or `code`."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Set limits that go before those in code, without a restart.

    `none` is no limit, and `code` follows the code again. They hold over restarts and over the loss of
    Redis's data.

    \b
    Examples:
      eventbus subscriptions set ImageMaker --concurrency 2
      eventbus subscriptions set ImageMaker --rate 0.5
      eventbus subscriptions set ImageMaker --concurrency code --rate code
    """
    from console.opening import reading
    from console.steering import limits, set_limits

    changes = limits(concurrency, rate)
    if not changes:
        raise Mistake("Nothing to set: give --concurrency or --rate.")
    with reading() as backend:
        _each(backend, [name], lambda on, one, say: set_limits(on, one, changes, say), as_json)


@group.command("drop")
@reporting
def drop(
    name: Name,
    force: Annotated[bool, typer.Option("--force", help="Although workers take it, or hold its deliveries.")] = False,
    dead_letters: Annotated[bool, typer.Option("--dead-letters", help="Remove its dead letters too.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove a subscriber for good.

    Its routes go, what waits for it, and what is set of it. Each of its deliveries ends as `dropped`, in
    bounded steps; what was cut short can be repeated. Deploy code without it first: code that still declares
    it brings it back as a new one. What --force takes from a worker may be running: its result is refused
    then, and what its handler returns is not published.

    \b
    Examples:
      eventbus subscriptions drop OldMaker --dry-run
      eventbus subscriptions drop OldMaker --dead-letters --yes
    """
    from console.opening import reading
    from console.steering import ask_to_drop, would_drop
    from console.steering import drop as drop_one

    with reading() as backend:
        if dry_run:
            would_drop(backend, name, force=force, dead_letters=dead_letters, as_json=as_json)
        else:
            ask_to_drop(backend, name, yes, force=force, dead_letters=dead_letters)
            drop_one(backend, name, force=force, dead_letters=dead_letters, as_json=as_json)


@group.command("remove-types")
@reporting
def remove_types(
    name: Name,
    types: Annotated[list[str], typer.Argument(metavar="TYPE", help="Event types.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Route a subscriber no more events of some types.

    What waits for it stays, and is handled.

    \b
    Examples:
      eventbus subscriptions show ScriptWriter
      eventbus subscriptions remove-types ScriptWriter SCENE_WRITTEN
    """
    from console.opening import reading
    from console.steering import remove, would_remove

    with reading() as backend:
        (would_remove if dry_run else remove)(backend, name, types, as_json=as_json)


def _seconds(idle: str) -> float:
    found = span("--idle", idle)
    assert found is not None
    return found.total_seconds()


def _each(
    backend: Backend, names: list[str], steer: Callable[[Backend, str, Callable[[str], None]], None], as_json: bool
) -> None:
    """Do it to every subscriber, also when it fails for one; the last failure decides the exit code.

    As JSON each that there is is told as it then stands: what failed may hold all the same.
    """
    from console.standing import as_object
    from events.errors import EventBusError, RedisUnavailable, UnknownSubscriber
    from events.standing import standings

    code = 0
    for name in dict.fromkeys(names):
        is_there = True
        try:
            steer(backend, name, (lambda sentence: None) if as_json else print)
        except EventBusError as error:
            complain(str(error))
            code, is_there = code_of(error), not isinstance(error, UnknownSubscriber | RedisUnavailable)
        if as_json and is_there:
            print_json(as_object(standings(backend.namespace, [name])[0]))
    if code:
        raise typer.Exit(code)
