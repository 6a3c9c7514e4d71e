"""Event types: the pipeline's own vocabulary, and names nobody has seen before.

A type is a string that has `.value`. `EventType` is what a content pipeline says;
an application adds its own by writing a `StrEnum` of its own, which needs no registration.
A process that meets a name it does not know reads it as a `TypeName`.
"""

from __future__ import annotations

import re
from enum import StrEnum, auto

_WELL_FORMED = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}\Z")


class _Named(StrEnum):
    """Members whose value is their own name."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[str]) -> str:
        return name


class EventType(_Named):
    """The vocabulary of a content pipeline: brief -> script -> shots -> images -> video -> edit."""

    PROJECT_CREATED = auto()
    PROJECT_FINALIZED = auto()
    SCENE_WRITTEN = auto()
    SHOT_PLANNED = auto()
    KEYFRAME_REQUESTED = auto()
    IMAGE_GENERATED = auto()
    DNA_BANK_UPDATED = auto()
    PROMPT_ADJUSTMENT = auto()
    PREVIEW_VIDEO_REQUESTED = auto()
    PREVIEW_VIDEO_READY = auto()
    FINAL_VIDEO_REQUESTED = auto()
    FINAL_VIDEO_READY = auto()
    QA_REPORT = auto()
    CONSISTENCY_FAILED = auto()
    MUSIC_COMPOSED = auto()
    VOICE_RENDERED = auto()
    SHOT_APPROVED = auto()
    USER_APPROVAL_REQUIRED = auto()
    USER_APPROVED = auto()
    USER_REVISION_REQUESTED = auto()
    USER_REJECTED = auto()
    HUMAN_GATE_TRIGGERED = auto()
    COST_OVERRUN_WARNING = auto()
    IMAGE_EDIT_REQUESTED = auto()
    IMAGE_EDITED = auto()
    ERROR_DETECTED = auto()
    ERROR_CORRECTED = auto()
    ERROR_CORRECTION_REQUESTED = auto()
    USER_ERROR_REPORTED = auto()


class TypeName(str):
    """A well-formed type name that is not in `EventType`; equal to any string with its letters."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The name as a plain string, as a member of an enum would give it."""
        return str(self)


_KNOWN: dict[str, EventType] = {member.value: member for member in EventType}


def is_well_formed(name: str) -> bool:
    """Tell whether a string can name an event type: a letter, then up to 99 of `A-Za-z0-9_.:-`."""
    return _WELL_FORMED.match(name) is not None


def named(name: str) -> EventType | TypeName:
    """Return the type of that name: the `EventType` where there is one, else a `TypeName`."""
    return _KNOWN.get(name) or TypeName(name)
