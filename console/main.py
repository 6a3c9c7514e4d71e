"""The entry point: `eventbus COMMAND`. It lists the commands; what they do is in `console/commands`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from console.commands import (
    archive,
    asyncapi,
    bench,
    chain,
    completion,
    dead,
    deliveries,
    demo,
    dev,
    doctor,
    export,
    import_,
    lag,
    migrate,
    prune,
    publish,
    redact,
    replay,
    scheduled,
    schedules,
    show,
    stats,
    subscriptions,
    tail,
    top,
    tree,
    web,
    worker,
    workers,
)
from console.exits import CODES, INTERRUPTED, MISTAKE, Mistake, complain, reporting, silence

HELP = f"""\
The event bus: publish events, run the agents that handle them, and ask what happened and why.

Servers are found by REDIS_URL and DATABASE_URL. Without them a real Valkey and an SQLite file are used,
kept in .eventbus in the current directory (EVENTBUS_HOME), and started and stopped by themselves.

\b
Begin with:
  eventbus demo                                      a story becomes a storyboard
  eventbus dev --app pipeline:bus                    your own agents, on this machine
  eventbus publish PROJECT_CREATED -p P-1 -a me      an event for them
  eventbus tail -f                                   watch what happens
  eventbus top                                       watch who does it
  eventbus web                                       all of it in a browser: http://localhost:8080

{CODES}
"""

# The class that every complaint about a command line has; where Typer keeps it depends on its version.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="eventbus",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"eventbus {version('multi-agent-event-bus')}")
        except PackageNotFoundError:
            print("eventbus (not installed: run from its sources)")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for module in (
    demo, dev, worker, archive, migrate, publish, tail, top, replay, show, chain, tree, stats, lag, doctor,
    deliveries, export, import_, prune, redact, bench, web, completion, asyncapi,
):  # fmt: skip
    app.command(module.__name__.rpartition(".")[2].rstrip("_"))(reporting(module.command))
for module in (dead, scheduled, schedules, subscriptions, workers):
    app.add_typer(module.group, name=module.__name__.rpartition(".")[2])


def main() -> None:
    """Run the command that the arguments name, and exit with its code."""
    if word := next((word for word in sys.argv[1:] if not _is_text(word)), None):
        complain(f"An argument holds bytes that are no UTF-8: {word!r:.200}.")
        sys.exit(MISTAKE)
    if completion.VARIABLE in os.environ:
        from typer.completion import completion_init

        completion_init()
    try:
        code = app(prog_name="eventbus", standalone_mode=False) or 0
        sys.stdout.flush()
    except UsageError as error:
        code = _explain(error)
    except Mistake as error:  # an option that is read before its command is called
        complain(str(error))
        code = MISTAKE
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        code = silence()
    sys.exit(code)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _explain(error: Exception) -> int:
    """Say what is wrong with the command line; a command line without a command gets the help."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(context.get_help() if context else HELP)
        return MISTAKE
    path = context.command_path if context else "eventbus"
    sentence = _of_value(error) or error.format_message().rstrip(".")  # type: ignore[attr-defined]
    complain(f"{sentence if sentence.endswith('?') else f'{sentence}.'} See `{path} --help`.")
    return MISTAKE


def _of_value(error: Exception) -> str:
    """Return a sentence that names the value which an option cannot have; nothing where Typer's own does."""
    found, parameter = getattr(error.__cause__, "errors", None), getattr(error, "param", None)
    if found is None or parameter is None:
        return ""
    problem = found()[0]
    said = problem["msg"].removeprefix("Input should ").removeprefix("Value error, ").partition(",")[0]
    name = max(parameter.opts, key=len) if parameter.param_type_name == "option" else parameter.human_readable_name
    return f"{name} must {said}, not {str(problem['input'])!r:.120}" if said.startswith("be ") else ""


if __name__ == "__main__":
    main()
