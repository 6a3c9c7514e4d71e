"""The edit: everything on the desk becomes one animated storyboard, a contact sheet and a cut list."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

from examples.storyboard.camera import PICTURE_HEIGHT, PREVIEW_HEIGHT, PREVIEW_WIDTH, as_gif
from examples.storyboard.desk import Desk
from examples.storyboard.drawing import HEIGHT_PX, PAPER, PENCIL, STRIP, WIDTH, as_png
from examples.storyboard.lettering import write
from examples.storyboard.music import join_wavs
from examples.storyboard.palette import from_hex, mix
from examples.storyboard.shots import SHOT_S
from examples.storyboard.sky import gradient
from examples.storyboard.splice import splice

TITLE_S = 2.0
STORYBOARD, SHEET, CUTS, SOUNDTRACK = "storyboard.gif", "contact_sheet.png", "storyboard.json", "soundtrack.wav"
_THUMB = 400


@dataclass(frozen=True, slots=True)
class Script:
    """What the script writer left on the desk for the editor: how much there must be."""

    title: str
    scenes: dict[str, int]
    palette: list[str]

    @classmethod
    def on(cls, desk: Desk) -> Script:
        script = desk.read_json(desk.pointer("script.json"))
        return cls(script["title"], {s["scene_id"]: s["shots"] for s in script["scenes"]}, script["palette"])

    def shot_ids(self) -> list[str]:
        return [f"{scene}-{number}" for scene, shots in self.scenes.items() for number in range(1, shots + 1)]

    def pieces(self) -> list[str]:
        """Every piece that must be here before the edit: a preview of each shot, a cue for each scene."""
        return self.shot_ids() + [f"{scene}-music" for scene in self.scenes]


def assemble(desk: Desk, script: Script) -> dict[str, Any]:
    """Write the finished files into the project's folder and return the cut list."""
    shots = [desk.read_json(desk.pointer(f"{shot_id}.json")) for shot_id in script.shot_ids()]
    card = title_card(script)
    films = [as_gif([card], [round(TITLE_S * 1000)])] + [desk.read(shot["preview"]) for shot in shots]
    cues = [desk.read(desk.pointer(f"{scene}.wav")) for scene in script.scenes]
    cuts = _cut_list(desk, script, shots)
    desk.write(STORYBOARD, splice(films))
    desk.write(SOUNDTRACK, join_wavs(cues, silence_s=TITLE_S))
    desk.write(SHEET, as_png(contact_sheet(script, [desk.read(shot["image"]) for shot in shots], shots)))
    desk.write_json(CUTS, cuts)
    return cuts


def _cut_list(desk: Desk, script: Script, shots: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "title": script.title,
        "storyboard": STORYBOARD,
        "contact_sheet": SHEET,
        "soundtrack": SOUNDTRACK,
        "duration_s": round(TITLE_S + len(shots) * SHOT_S, 3),
        "scenes": len(script.scenes),
        "retakes": sum(shot["take"] - 1 for shot in shots),
        "cuts": [
            {
                "shot_id": shot["shot"]["shot_id"],
                "in_s": round(TITLE_S + number * SHOT_S, 3),
                "out_s": round(TITLE_S + (number + 1) * SHOT_S, 3),
                **{
                    name: shot["shot"][name]
                    for name in ("framing", "move", "mood", "setting", "time", "weather", "cast")
                },
                "caption": shot["shot"]["caption"],
                "image": shot["image"],
                "preview": shot["preview"],
                "take": shot["take"],
                "measures": shot["measures"],
            }
            for number, shot in enumerate(shots)
        ],
    }


def title_card(script: Script) -> Image.Image:
    """Return the storyboard's first picture: its title on the project's colours."""
    sky, glow, far, mid, ground, ink, accent = map(from_hex, script.palette)
    size = (PREVIEW_WIDTH, PREVIEW_HEIGHT)
    card = gradient(size, sky, glow)
    draw = ImageDraw.Draw(card)
    for lift, height, colour in ((0, 62, far), (90, 44, mid), (-120, 26, ground)):
        box = (-160 + lift, PREVIEW_HEIGHT - height * 1.6, PREVIEW_WIDTH + 160 + lift, PREVIEW_HEIGHT + height * 2)
        draw.ellipse(box, fill=colour)
    middle = PICTURE_HEIGHT * 0.44
    draw.rounded_rectangle((36, middle - 62, PREVIEW_WIDTH - 36, middle + 62), 14, fill=PAPER, outline=accent, width=3)
    write(
        card, (56, round(middle - 50), PREVIEW_WIDTH - 56, round(middle + 50)), script.title, 30, mix(ink, PENCIL, 0.4)
    )
    return card


def contact_sheet(script: Script, images: list[bytes], shots: list[dict[str, Any]]) -> Image.Image:
    """Return all keyframes on one sheet, in the order of the story, each with its number and colours."""
    columns = 1 if len(images) == 1 else 2 if len(images) <= 4 else 3
    thumb = _THUMB, _THUMB * (HEIGHT_PX + STRIP) // WIDTH
    gap, head, foot = 24, 96, 34
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (gap + columns * (thumb[0] + gap), head + rows * (thumb[1] + foot + gap)), (238, 233, 222))
    write(sheet, (gap, 12, sheet.width - gap, head - 12), script.title, 32, PENCIL, max_lines=2)
    draw = ImageDraw.Draw(sheet)
    for number, (png, shot) in enumerate(zip(images, shots, strict=True)):
        x, y = gap + number % columns * (thumb[0] + gap), head + number // columns * (thumb[1] + foot + gap)
        draw.rectangle((x - 1, y - 1, x + thumb[0], y + thumb[1] + foot), fill=PAPER, outline=(206, 198, 182))
        with Image.open(BytesIO(png)) as frame:
            sheet.paste(frame.convert("RGB").resize(thumb, Image.Resampling.LANCZOS), (x, y))
        label = f"{shot['shot']['shot_id']}: {shot['shot']['framing']}, {shot['shot']['move']}, {shot['shot']['mood']}"
        box = (x + 12, y + thumb[1], x + thumb[0] - 130, y + thumb[1] + foot)
        write(sheet, box, label, 14, (120, 110, 104), max_lines=1, anchor="lm")
        for place, colour in enumerate(shot["palette"]):
            left = x + thumb[0] - 120 + place * 16
            draw.ellipse((left, y + thumb[1] + 10, left + 13, y + thumb[1] + 23), fill=from_hex(colour))
    return sheet
