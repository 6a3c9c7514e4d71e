"""Every text of the console is in every language's catalogue, and nowhere else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from console.web.live.attention import SENTENCES
from console.web.pages.words import LANGUAGES, WORDS, negotiated, say

WEB = WORDS.parent.parent
TEMPLATES = sorted((WEB / "templates").glob("*.html"))
SCRIPTS = sorted((WEB / "static" / "js").rglob("*.js"))
CATALOGUES = {language: json.loads((WORDS / f"{language}.json").read_text()) for language in LANGUAGES}
# What is the same in every language, or is no text.
NO_TEXT = {"UTC", "PNG", "SVG", "g", "j", "k", "l", "t", "Esc", "/", "openapi.json", "scene.number=3"}
PLACE = re.compile(r"\{(\w+)\}")


def test_every_language_has_the_same_texts_with_the_same_values_in_them() -> None:
    english = CATALOGUES["en"]
    for texts in CATALOGUES.values():
        assert texts.keys() == english.keys()
        assert {key: set(PLACE.findall(text)) for key, text in texts.items()} == {
            key: set(PLACE.findall(text)) for key, text in english.items()
        }
        assert all(text.strip() for text in texts.values())


def test_what_needs_attention_is_said_in_every_language_by_its_code() -> None:
    for texts in CATALOGUES.values():
        for code, sentence in SENTENCES.items():
            assert set(PLACE.findall(texts[f"attention.{code}"])) == set(PLACE.findall(sentence))
    assert CATALOGUES["en"]["attention.paused"] == SENTENCES["paused"]


@pytest.mark.parametrize("path", [*TEMPLATES, *SCRIPTS], ids=lambda path: path.name)
def test_every_key_that_is_asked_for_is_in_the_catalogues(path: Path) -> None:
    asked = set(re.findall(r"""\bt\(\s*["'`]([\w.-]+)["'`]\s*[,)]""", path.read_text()))

    assert asked <= CATALOGUES["en"].keys()


def test_every_key_in_the_catalogues_is_asked_for() -> None:
    code = "\n".join(path.read_text() for path in [*TEMPLATES, *SCRIPTS, *(WEB / "pages").glob("*.py")])
    # Made of a beginning and a name: t("state." ~ state), t(`letters.title.${verb}`)
    beginnings = tuple(set(re.findall(r"""["'`]([\w.]+\.)(?:["'`]\s*~|\$\{)""", code)))
    unused = {
        key
        for key in CATALOGUES["en"]
        if f'"{key.removesuffix(".one")}"' not in code and not key.startswith(beginnings)
    }
    assert unused == set()


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_no_text_of_their_own(path: Path) -> None:
    attributes_of_body = r"\{% block body %\}.*?\{% endblock %\}"
    source = re.sub(attributes_of_body + r"|\{#.*?#\}|\{%.*?%\}", " ", path.read_text(), flags=re.DOTALL)
    bare = re.sub(r"<[^<>]*(?:\{\{.*?\}\}[^<>]*)*>|\{\{.*?\}\}", "\n", source, flags=re.DOTALL)
    words = {word.strip() for word in bare.splitlines() if re.search(r"[^\W\d_]", word)}
    attributes = re.findall(r"""\b(?:title|aria-label|alt|placeholder)="([^"{]*[A-Za-z]{2}[^"{]*)\"""", source)

    assert words - NO_TEXT == set()
    assert set(attributes) - NO_TEXT == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_hold_no_sentences_of_their_own(path: Path) -> None:
    code = re.sub(r"/\*.*?\*/|^\s*//.*$|\s//\s.*$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    literals = [found[2] for found in re.finditer(r"""(["'`])((?:\\.|(?!\1).)*)\1""", code)]
    sentences = [text for text in literals if re.match(r"[A-Z][a-z]+ [a-z]+|.*[a-z]\.$", text)]
    shown = re.findall(r"""textContent\s*=\s*["'`]([^"'`]+)["'`]|\.append\(["'`]([^"'`]+)["'`]\)""", code)

    assert sentences == []
    assert shown == []


def test_a_language_is_chosen_by_the_switch_then_by_what_the_browser_accepts() -> None:
    assert negotiated("zh", "en") == "zh"
    assert negotiated("xx", "fr, zh-CN;q=0.9, en;q=0.8") == "zh"
    assert negotiated(None, "en;q=0.2, zh-Hant;q=0.1") == "en"
    assert negotiated(None, "zh;q=oops, en;q=0.5") == "en"
    assert negotiated(None, "") == "en"


def test_values_are_put_into_texts_as_they_are() -> None:
    assert say("en", "ago", age="{x}<b>") == "{x}<b> ago"
    assert say("en", "letters.chosen", count=12_345) == "12,345 chosen"
    assert say("en", "overview.workers", count=1) == "1 worker alive"
