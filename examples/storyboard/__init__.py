"""A content pipeline on the event bus: a plain-text story becomes an animated storyboard.

The flow, one agent a line; each is written against the public API only:

    PROJECT_CREATED       RequirementParser    writers.py   -> DNA_BANK_UPDATED, REQUIREMENTS_PARSED
    REQUIREMENTS_PARSED   ScriptWriter         writers.py   -> SCENE_WRITTEN for each scene
    SCENE_WRITTEN         ShotDirector         writers.py   -> SHOT_PLANNED for each shot
    SHOT_PLANNED          ImageGen             artists.py   -> IMAGE_GENERATED
    IMAGE_GENERATED       ConsistencyGuardian  artists.py   -> SHOT_APPROVED or CONSISTENCY_FAILED
    CONSISTENCY_FAILED    ShotDirector         writers.py   -> PROMPT_ADJUSTMENT, to ImageGen again
    SHOT_APPROVED         VideoGen             artists.py   -> PREVIEW_VIDEO_READY
    SCENE_WRITTEN         MusicComposer        artists.py   -> MUSIC_COMPOSED for each scene
    both of these         Editor               editor.py    -> PROJECT_FINALIZED when all are there

`app.py` wires them. What is too big for a payload lies on the project's desk (`desk.py`).
"""

from examples.storyboard.app import SUBSCRIPTIONS, opening_event, subscribers
from examples.storyboard.story import FABLE, Story, StoryError, load_story

__all__ = ["FABLE", "SUBSCRIPTIONS", "Story", "StoryError", "load_story", "opening_event", "subscribers"]
