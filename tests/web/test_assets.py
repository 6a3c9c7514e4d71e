"""What the console's pages load: shipped with the package, from this server alone, nothing inline."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "console" / "web"
FILES = sorted(path for folder in ("templates", "static") for path in (WEB / folder).rglob("*") if path.is_file())
OURS = [path for path in FILES if "vendor" not in path.parts]
TEMPLATES = [path for path in FILES if path.suffix == ".html"]


def test_every_file_is_shipped_with_the_package() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    shipped = {path for pattern in setup["options.package_data"]["console.web"].split() for path in WEB.glob(pattern)}

    assert [str(path) for path in FILES if path not in shipped] == []
    assert FILES


def test_every_vendored_package_has_its_licence_and_its_version_is_told() -> None:
    told = (WEB / "static" / "vendor" / "README.md").read_text()
    packages = [path for path in (WEB / "static" / "vendor").iterdir() if path.is_dir()]

    assert {path.name for path in packages} == {"uplot", "d3-hierarchy"}
    for package in packages:
        assert (package / "LICENSE").read_text().strip()
        assert re.search(rf"^    {package.name} +\d+\.\d+\.\d+", told, re.MULTILINE)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    loaded = re.findall(r"""(?:src|href|import|from|url\(|fetch\()\s*=?\s*["'(]?(https?:)?//""", path.read_text())

    assert loaded == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_inline_script_or_style_and_mark_nothing_as_safe(path: Path) -> None:
    source = path.read_text()

    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", source) == []
    assert re.findall(r"\|\s*(?:safe|tojson)\b|autoescape\s+false|Markup", source) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_button_that_only_a_script_heeds_is_not_shown_before_the_script_has_come(path: Path) -> None:
    style = (WEB / "static" / "css" / "parts.css").read_text()
    rule = re.search(r"html:not\(\[data-ready\]\) :is\((.*?)\) \{ visibility: hidden; \}", style)
    assert rule, "the rule of the style sheet"
    kinds = "|".join(re.findall(r"\[([\w-]+)\]", rule[1]))
    # The last element before a button that is hidden holds it, where a template hides several at once.
    shown = re.split(r"<(?:section|span)[^>]*\shidden\b.*?</(?:section|span)>", path.read_text(), flags=re.DOTALL)
    buttons = re.findall(r"<button[^>]*type=\"button\"[^>]*>", "".join(shown))

    assert [each for each in buttons if not re.search(rf"\s(?:hidden\b|(?:{kinds})=)", each)] == []


@pytest.mark.parametrize("path", [path for path in OURS if path.suffix == ".js"], ids=lambda path: path.name)
def test_scripts_make_no_html_of_text(path: Path) -> None:
    found = re.findall(r"(?:inner|outer)HTML\s*=|insertAdjacentHTML|document\.write|eval\(", path.read_text())

    assert found == []
