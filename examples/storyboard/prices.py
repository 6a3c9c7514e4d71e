"""What each step of the pipeline costs, in US dollars: the one price list.

The demo draws and synthesises everything itself; these are what comparable hosted models ask.
"""

from __future__ import annotations

PRICES_USD: dict[str, float] = {
    "brief": 0.002,
    "dna": 0.001,
    "scene": 0.008,
    "shot plan": 0.003,
    "image": 0.04,
    "inspection": 0.004,
    "prompt": 0.002,
    "preview": 0.09,
    "music": 0.03,
    "edit": 0.05,
}


def price(step: str) -> float:
    """Return what one step costs, in US dollars."""
    return PRICES_USD[step]
