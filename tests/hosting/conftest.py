"""Directories and worlds for what hosts run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.command import Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty directory."""
    return Place(tmp_path, {})
