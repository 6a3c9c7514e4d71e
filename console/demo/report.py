"""What the demo shows at the end: the files, the causation tree, the statistics, and how to look further."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console import wording
from console.printing import console
from console.statistics import print_types
from console.tree import print_tree

if TYPE_CHECKING:
    from console.demo.run import Told
    from events.backend import Backend
    from events.settings import Settings

_WHAT = {
    "storyboard": "the animated storyboard: open it in a browser",
    "contact_sheet": "every keyframe on one sheet",
    "soundtrack": "the music",
    "cut_list": "which shot comes when",
}


def print_report(backend: Backend, told: Told, commands: list[str]) -> None:
    """Print everything that the run left."""
    out = console()
    tree = backend.blackboard.causation.tree(told.root.event_id)
    made: Any = told.final.event.payload
    out.print(
        f"{made['title']}: {wording.plural(made['shots'], 'shot')} in {told.elapsed_s:.1f} s, "
        f"{wording.plural(tree.count, 'event')}, {wording.money(tree.cost_total)}",
        style="bold", soft_wrap=True,
    )  # fmt: skip
    made_files = files(told)
    width = max(len(_shown(path)) for path in made_files.values())
    for name, path in made_files.items():
        size = wording.size(path.stat().st_size)
        out.print(f"  {_shown(path):<{width}}  {size:>8}  {_WHAT.get(name, name)}", soft_wrap=True)
    out.print("\nWhat caused what", style="bold")
    print_tree(out, tree)
    out.print("\nPer event type", style="bold")
    print_types(out, backend.blackboard.statistics.project(told.root.project_id))
    out.print("\nLook further", style="bold")
    for command in commands:
        out.print(f"  {command}", soft_wrap=True)


def report_object(backend: Backend, told: Told, commands: list[str]) -> dict[str, Any]:
    """Return the same as JSON, without tree and statistics: the commands give those."""
    tree = backend.blackboard.causation.tree(told.root.event_id)
    return {
        "project_id": told.root.project_id,
        "root_id": told.root.event_id,
        "final_id": told.final.event.event_id,
        "elapsed_s": round(told.elapsed_s, 3),
        "events": tree.count,
        "cost_total": tree.cost_total,
        "files": {name: str(path) for name, path in files(told).items()},
        "commands": commands,
    }


def files(told: Told) -> dict[str, Path]:
    """Return the finished files by what they are."""
    payload: Any = told.final.event.payload
    return {name: Path(payload["out_dir"], file) for name, file in payload["files"].items()}


def commands(told: Told, settings: Settings, given_home: str) -> list[str]:
    """Return commands that show more, and that work as they are in this directory.

    Args:
        given_home: the home as the user named it.
    """
    setting = ""
    if given_home != type(settings)().home and not (settings.redis_url and settings.database_url):
        setting += f"EVENTBUS_HOME={shlex.quote(given_home)} "
    if settings.namespace != type(settings)().namespace:
        setting += f"EVENTBUS_NAMESPACE={shlex.quote(settings.namespace)} "
    begin = setting + _this_program()
    project = shlex.quote(told.root.project_id)
    return [
        f"{begin} chain {told.final.event.event_id}",
        f"{begin} tree {told.root.event_id} --latency",
        f"{begin} replay --project {project}",
        f"{begin} replay --project {project} --type CONSISTENCY_FAILED --json",
        f"{begin} stats --project {project}",
        f"{begin} stats --by subscriber",
        f"{begin} tail -n 5",
        f"{begin} top --once",
        f"{begin} doctor",
        f"{begin} web",
    ]


def _this_program() -> str:
    """Return how to call this command again from here: `eventbus` when that is what a shell would find."""
    typed = sys.argv[0]
    if Path(typed).name == "eventbus":
        found = shutil.which("eventbus")
        if found and os.path.samefile(found, typed):
            return "eventbus"
        return shlex.quote(typed)
    return f"{shlex.quote(sys.executable)} -m console.main"


def _shown(path: Path) -> str:
    """Return a path as short as it can be written here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
