"""An application whose payloads have models, for a web process that checks by them and runs nothing of it."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, Field

from events.bus import EventBus
from events.event import Event

bus = EventBus()


@bus.payload("SCENE_WRITTEN")
class SceneV1(BaseModel):
    number: int


@bus.payload("SCENE_WRITTEN", version=2)
class Scene(BaseModel):
    number: int = Field(ge=1)
    text: str


@bus.subscriber("Planner", ["SCENE_WRITTEN"])
async def plan(event: Event) -> None:
    Path(os.environ["EVENTBUS_HOME"], "handled").touch()


@bus.every("* * * * * *", missed="all")
def tick(slot: object) -> Event:
    return Event(project_id="film", type="QA_REPORT", actor="tick")
