"""Music: a short cue for a scene, composed from its mood and synthesised with the standard library."""

from __future__ import annotations

import wave
from array import array
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import cycle
from math import exp, pi, sin
from sys import byteorder

from examples.storyboard.palette import dice

RATE = 22_050


@dataclass(frozen=True, slots=True)
class Manner:
    """How a mood sounds: beats a minute, a scale in semitones above the root, the root's MIDI number."""

    tempo: int
    scale: tuple[int, ...]
    root: int
    bright: float


MANNERS: dict[str, Manner] = {
    "joy": Manner(126, (0, 2, 4, 7, 9), 60, 0.55),
    "calm": Manner(76, (0, 2, 4, 7, 9), 57, 0.20),
    "sad": Manner(64, (0, 2, 3, 5, 7, 8, 10), 57, 0.15),
    "fear": Manner(92, (0, 1, 3, 5, 6, 8, 10), 52, 0.35),
    "anger": Manner(138, (0, 1, 4, 5, 7, 8, 10), 50, 0.70),
    "wonder": Manner(84, (0, 2, 4, 6, 7, 9, 11), 62, 0.30),
    "pride": Manner(108, (0, 2, 4, 5, 7, 9, 10), 55, 0.45),
}
_CHORDS = (0, 3, 4, 0, 5, 3, 4, 0)
_TABLE = 2048


def compose(mood: str, seconds: float, seed: str, scene_id: str) -> bytes:
    """Return a cue as a WAV file, mono, 16 bit, `RATE` Hz, exactly as long as asked."""
    manner, chance = MANNERS[mood], dice(seed, scene_id, "music")
    total, beat = round(seconds * RATE), 60 / manner.tempo
    sound = [0.0] * total
    step, time, bar = len(manner.scale), 0.0, 0
    while time < seconds:
        chord = _CHORDS[bar % len(_CHORDS)]
        _add(sound, time, _chord(manner, chord))
        for beat_number in range(8):
            if chance.random() < (0.86 if beat_number % 2 == 0 else 0.55):
                step = max(2, min(2 * len(manner.scale), step + chance.choice((-2, -1, -1, 0, 1, 1, 2))))
                at = time + beat_number * beat / 2
                _add(sound, at, _note(_pitch(manner, step), round(beat * 1.4, 3), manner.bright, 0.22))
        time, bar = time + 4 * beat, bar + 1
    return as_wav(_rounded_off(sound))


def as_wav(sound: list[float]) -> bytes:
    """Return samples from -1 to 1 as a WAV file."""
    samples = array("h", [round(32_000 * value) for value in sound])
    if byteorder == "big":
        samples.byteswap()
    return _wav(samples.tobytes())


def join_wavs(wavs: list[bytes], silence_s: float) -> bytes:
    """Return cues one after another, after some seconds of silence."""
    parts = [b"\0\0" * round(silence_s * RATE)]
    for content in wavs:
        with wave.open(BytesIO(content)) as cue:
            parts.append(cue.readframes(cue.getnframes()))
    return _wav(b"".join(parts))


def _wav(frames: bytes) -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(frames)
    return file.getvalue()


def _pitch(manner: Manner, degree: int) -> float:
    octave, index = divmod(degree, len(manner.scale))
    return 440.0 * 2 ** ((manner.root + 12 * octave + manner.scale[index] - 69) / 12)


@lru_cache(maxsize=64)
def _chord(manner: Manner, degree: int) -> tuple[float, ...]:
    """A bar's accompaniment: a bass note and three soft ones above it."""
    seconds = round(60 / manner.tempo * 3.6, 3)
    bass = _note(_pitch(manner, degree - len(manner.scale)), seconds, 0.12, 0.16)
    upper = [_note(_pitch(manner, degree + third), seconds, 0.12, 0.10) for third in (0, 2, 4)]
    return tuple(map(sum, zip(bass, *upper, strict=True)))


@lru_cache(maxsize=32)
def _timbre(bright: float) -> tuple[float, ...]:
    """One period of the tone, its overtones stronger when it is bright."""
    overtones = [(n, bright ** (n - 1)) for n in range(1, 7)]
    loudness = sum(share for _, share in overtones)
    return tuple(sum(a * sin(2 * pi * n * i / _TABLE) for n, a in overtones) / loudness for i in range(_TABLE))


@lru_cache(maxsize=256)
def _note(frequency: float, seconds: float, bright: float, volume: float) -> tuple[float, ...]:
    """A plucked note: a quick rise, then it dies away."""
    loop = _loop(frequency, bright)
    return tuple([volume * tone * shape for tone, shape in zip(cycle(loop), _shape(round(seconds * RATE)))])


def _loop(frequency: float, bright: float) -> list[float]:
    """Some whole periods of the tone: as many as make a whole number of samples, nearly enough."""
    table, period = _timbre(bright), RATE / frequency
    periods = min(range(1, 25), key=lambda n: (abs(n * period - round(n * period)) / n, n))
    length = round(periods * period)
    return [table[i * periods * _TABLE // length % _TABLE] for i in range(length)]


@lru_cache(maxsize=32)
def _shape(length: int) -> tuple[float, ...]:
    """How the loudness of a plucked note runs from its beginning to its end."""
    rise = round(0.008 * RATE)
    return tuple(min(1.0, i / rise) * exp(-4.6 * i / length) for i in range(length))


def _add(sound: list[float], seconds: float, note: tuple[float, ...]) -> None:
    start = round(seconds * RATE)
    end = min(len(sound), start + len(note))
    if start < end:
        sound[start:end] = [a + b for a, b in zip(sound[start:end], note)]  # noqa: B905 - the sound may end first


def _rounded_off(sound: list[float], fade_s: float = 0.30) -> list[float]:
    """Let the cue die away at its end, and keep its loudest sample below 0.8."""
    peak = max(map(abs, sound), default=0.0) or 1.0
    gain, fade = min(1.6, 0.8 / peak), max(1, round(fade_s * RATE))
    body = [value * gain for value in sound]
    for i in range(max(0, len(body) - fade), len(body)):
        body[i] *= (len(body) - i) / fade
    return body
