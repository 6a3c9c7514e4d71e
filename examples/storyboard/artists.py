"""The agents that make pictures and sound, and the one that looks at the pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from events import Event, EventType
from examples.storyboard.agent import Agent, Made
from examples.storyboard.camera import film
from examples.storyboard.desk import Desk
from examples.storyboard.drawing import Exposure, draw_keyframe
from examples.storyboard.measure import findings, measure
from examples.storyboard.music import MANNERS, compose
from examples.storyboard.shots import SHOT_S, Shot

MAX_TAKES = 3


class ImageGen(Agent):
    """Draws a keyframe for each planned shot, and again when its prompt was adjusted."""

    def work(self, event: Event) -> Iterator[Made]:
        desk, asked = Desk.of(event), dict[str, Any](event.payload)
        shot = Shot.from_payload(asked["shot"])
        png = draw_keyframe(shot, asked["seed"], Exposure.from_payload(asked["exposure"]))
        pointer = desk.write(desk.pointer(f"{shot.shot_id}.take{asked['take']}.png"), png)
        yield Made(EventType.IMAGE_GENERATED, "image", {**asked, "image": pointer, "bytes": len(png)}, pointer)


class ConsistencyGuardian(Agent):
    """Measures each keyframe against the project's colour DNA; sends back what is off, twice at most."""

    def work(self, event: Event) -> Iterator[Made]:
        desk, seen = Desk.of(event), dict[str, Any](event.payload)
        dna, time = desk.read_json(desk.pointer("dna.json")), seen["shot"]["time"]
        measures = measure(desk.read(seen["image"]), seen["palette"])
        wrong = findings(measures, time, dna)
        report = {
            **seen,
            "measures": measures.as_payload(),
            "findings": wrong,
            "wanted_luminance": dna["luminance"][time],
        }
        passed = not wrong or seen["take"] >= MAX_TAKES
        verdict = EventType.SHOT_APPROVED if passed else EventType.CONSISTENCY_FAILED
        yield Made(verdict, "inspection", report, seen["image"])


class VideoGen(Agent):
    """Films each approved keyframe: pans, zooms, holds."""

    def work(self, event: Event) -> Iterator[Made]:
        desk, seen = Desk.of(event), dict[str, Any](event.payload)
        shot = Shot.from_payload(seen["shot"])
        gif = film(desk.read(seen["image"]), shot.move)
        pointer = desk.write(desk.pointer(f"{shot.shot_id}.gif"), gif)
        kept = {name: seen[name] for name in ("shot", "take", "palette", "image", "measures", "findings")}
        desk.write_json(desk.pointer(f"{shot.shot_id}.json"), {**kept, "preview": pointer})
        payload = {
            **desk.as_payload(),
            "piece": shot.shot_id,
            "seconds": SHOT_S,
            "bytes": len(gif),
            "take": seen["take"],
        }
        yield Made(EventType.PREVIEW_VIDEO_READY, "preview", payload, pointer)


class MusicComposer(Agent):
    """Composes a cue for each scene, as long as the scene's shots, in the scale of its mood."""

    def work(self, event: Event) -> Iterator[Made]:
        desk, scene = Desk.of(event), dict[str, Any](event.payload)
        seconds = round(scene["shots"] * SHOT_S, 3)
        wav = compose(scene["mood"], seconds, scene["seed"], scene["scene_id"])
        pointer = desk.write(desk.pointer(f"{scene['scene_id']}.wav"), wav)
        played = {"mood": scene["mood"], "tempo": MANNERS[scene["mood"]].tempo, "seconds": seconds, "bytes": len(wav)}
        yield Made(
            EventType.MUSIC_COMPOSED,
            "music",
            {**desk.as_payload(), "piece": f"{scene['scene_id']}-music", **played},
            pointer,
        )
