"""The storyboard pipeline, wired: who listens to what, and the event that sets it off.

for agent, types, options in SUBSCRIPTIONS:
    bus.subscribe(agent, types, **options)
await bus.publish(opening_event(story.title, story.text, "out", "PROJ-1"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from events import Event, EventSubscriber, EventType
from examples.storyboard.agent import StoryEvent
from examples.storyboard.artists import ConsistencyGuardian, ImageGen, MusicComposer, VideoGen
from examples.storyboard.editor import Editor
from examples.storyboard.writers import RequirementParser, ScriptWriter, ShotDirector

Subscription = tuple[EventSubscriber, list[EventType | StoryEvent], dict[str, Any]]

# Local work that fails is worth trying again at once; an agent that pays for each try would wait longer.
SOON = {"min_backoff": 1.0, "max_backoff": 10.0}
SUBSCRIPTIONS: list[Subscription] = [
    (RequirementParser(), [EventType.PROJECT_CREATED], {**SOON, "time_limit": 60}),
    (ScriptWriter(), [StoryEvent.REQUIREMENTS_PARSED], {**SOON, "time_limit": 60}),
    (ShotDirector(), [EventType.SCENE_WRITTEN, EventType.CONSISTENCY_FAILED], {**SOON, "time_limit": 60}),
    (ImageGen(), [EventType.SHOT_PLANNED, EventType.PROMPT_ADJUSTMENT], {**SOON, "time_limit": 120}),
    (ConsistencyGuardian(), [EventType.IMAGE_GENERATED], {**SOON, "time_limit": 60}),
    (VideoGen(), [EventType.SHOT_APPROVED], {**SOON, "time_limit": 120}),
    (MusicComposer(), [EventType.SCENE_WRITTEN], {**SOON, "time_limit": 120}),
    (
        Editor(),
        [EventType.PREVIEW_VIDEO_READY, EventType.MUSIC_COMPOSED],
        {**SOON, "time_limit": 300, "ordering": "project"},
    ),
]


def subscribers() -> list[EventSubscriber]:
    """Return the agents, in the order of the pipeline."""
    return [agent for agent, _, _ in SUBSCRIPTIONS]


def opening_event(title: str, text: str, out_dir: str | Path, project_id: str) -> Event:
    """Return the PROJECT_CREATED that starts the pipeline.

    Args:
        title, text: of a `Story`.
        out_dir: the folder of the finished files; of this project alone, made when it is missing.
            Every process of the fleet must see it under this path.
        project_id: 1 to 200 characters.

    Raises:
        InvalidEvent: the project id, or the folder's name, cannot be in an event.
    """
    payload = {"title": title, "story": text, "out_dir": str(Path(out_dir).absolute())}
    return Event(project_id=project_id, type=EventType.PROJECT_CREATED, actor="Author", payload=payload)
