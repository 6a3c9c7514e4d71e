"""The editor: waits until every piece of a project is here, then cuts it together, once."""

from __future__ import annotations

from collections.abc import Iterator

from events import Event, EventType
from examples.storyboard.agent import Agent, Made
from examples.storyboard.desk import Desk, Ledger
from examples.storyboard.editing import CUTS, SHEET, SOUNDTRACK, STORYBOARD, Script, assemble


class Editor(Agent):
    """Subscribe with `ordering="project"`: one piece of a project at a time.

    Pieces arrive in any order, in any process, and may arrive twice. Which have come is kept in
    the project's ledger on disk; the one that completes it closes it, and only that one, when it is
    handled again, edits again.
    """

    def work(self, event: Event) -> Iterator[Made]:
        desk, piece = Desk.of(event), str(event.payload["piece"])
        script, ledger = Script.on(desk), Ledger(desk, run=event.correlation_id or event.project_id)
        ledger.enter(piece)
        if ledger.closed_by() not in (None, piece) or not ledger.has_all(script.pieces()):
            return
        cuts = assemble(desk, script)
        ledger.close(piece)
        summary = {name: cuts[name] for name in ("title", "duration_s", "scenes", "retakes")}
        files = {"storyboard": STORYBOARD, "contact_sheet": SHEET, "soundtrack": SOUNDTRACK, "cut_list": CUTS}
        payload = {**desk.as_payload(), **summary, "shots": len(cuts["cuts"]), "files": files}
        yield Made(EventType.PROJECT_FINALIZED, "edit", payload, CUTS)
