"""The agents that read and plan: from a story to shots."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator

from events import Event, EventType
from examples.storyboard.agent import Agent, Made, StoryEvent
from examples.storyboard.desk import Desk
from examples.storyboard.drawing import Exposure, first_exposure
from examples.storyboard.measure import corrected
from examples.storyboard.palette import MOODS, dna, shot_palette
from examples.storyboard.reading import Scene
from examples.storyboard.script import write_script
from examples.storyboard.shots import Shot, plan_shots
from examples.storyboard.story import checked
from examples.storyboard.text import caption
from examples.storyboard.words import count, tokens


class RequirementParser(Agent):
    """Reads the brief: checks the story, finds its moods, and fixes the project's colour DNA."""

    def work(self, event: Event) -> Iterator[Made]:
        title, text = caption(str(event.payload["title"]), 120), checked(str(event.payload["story"]))
        desk = Desk.laid_out(str(event.payload["out_dir"]), event.project_id, title, text)
        desk.write(desk.pointer("story.txt"), text.encode())
        moods = count("mood", text)
        genes = dna(moods)
        desk.write_json(desk.pointer("dna.json"), genes)
        yield Made(EventType.DNA_BANK_UPDATED, "dna", {**desk.as_payload(), "dna": genes}, desk.pointer("dna.json"))
        brief = {
            "title": title,
            "seed": hashlib.sha256(f"{title}\0{text}".encode()).hexdigest()[:16],
            "characters": len(text),
            "words": len(tokens(text)),
            "moods": dict(moods.most_common()),
        }
        yield Made(StoryEvent.REQUIREMENTS_PARSED, "brief", {**desk.as_payload(), **brief}, desk.pointer("story.txt"))


class ScriptWriter(Agent):
    """Splits the story into scenes and says of each what it shows."""

    def work(self, event: Event) -> Iterator[Made]:
        desk, seed = Desk.of(event), str(event.payload["seed"])
        scenes = write_script(desk.read(desk.pointer("story.txt")).decode(), seed)
        leading = Counter(scene.mood for scene in scenes).most_common(1)[0][0]
        shown = [scene.as_payload() for scene in scenes]
        script = {"title": event.payload["title"], "palette": MOODS[leading].as_hex(), "scenes": shown}
        desk.write_json(desk.pointer("script.json"), script)
        for scene in shown:
            pointer = desk.write_json(desk.pointer(f"{scene['scene_id']}.scene.json"), scene)
            opening = caption(scene["sentences"][0])
            told = {name: value for name, value in scene.items() if name != "sentences"}
            payload = {**desk.as_payload(), "seed": seed, "scenes": len(scenes), "opening": opening, **told}
            yield Made(EventType.SCENE_WRITTEN, "scene", payload, pointer)


class ShotDirector(Agent):
    """Plans the shots of a scene; corrects the prompt of a shot that was sent back."""

    def work(self, event: Event) -> Iterator[Made]:
        if event.type == EventType.CONSISTENCY_FAILED:
            yield self._adjusted(event)
            return
        desk, seed = Desk.of(event), str(event.payload["seed"])
        scene = Scene.from_payload(desk.read_json(str(event.blackboard_pointer)))
        for shot in plan_shots(scene):
            payload = {
                **desk.as_payload(),
                "seed": seed,
                "take": 1,
                "prompt": shot.prompt,
                "palette": shot_palette(shot.mood, shot.time).as_hex(),
                "exposure": first_exposure(seed, shot.shot_id).as_payload(),
                "shot": shot.as_payload(),
            }
            yield Made(EventType.SHOT_PLANNED, "shot plan", payload)

    def _adjusted(self, event: Event) -> Made:
        seen = event.payload
        exposure = corrected(
            Exposure.from_payload(seen["exposure"]),  # type: ignore[arg-type]
            measured=seen["measures"]["luminance"],  # type: ignore[index, call-overload, arg-type]
            wanted=seen["wanted_luminance"],  # type: ignore[arg-type]
            wrong=seen["findings"],  # type: ignore[arg-type]
        )
        shot = Shot.from_payload(seen["shot"])  # type: ignore[arg-type]
        prompt = f"{shot.prompt}; not {' or '.join(seen['findings'])}"  # type: ignore[arg-type]
        kept = {name: seen[name] for name in ("out_dir", "desk", "seed", "palette", "shot")}
        take = int(seen["take"]) + 1  # type: ignore[arg-type]
        return Made(
            EventType.PROMPT_ADJUSTMENT,
            "prompt",
            {**kept, "take": take, "prompt": prompt, "exposure": exposure.as_payload()},
        )
