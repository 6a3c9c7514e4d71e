"""Stories from hostile files, and text in any script, become scenes and shots."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from examples.storyboard import FABLE, StoryError, load_story
from examples.storyboard.lettering import font_for, lacking, wrap, write
from examples.storyboard.reading import cast_of, mood_of
from examples.storyboard.script import write_script
from examples.storyboard.shots import plan_shots
from examples.storyboard.story import MAX_STORY_BYTES, checked, parse_story
from examples.storyboard.text import MAX_SCENES, MAX_SHOTS, caption, is_condensed, paragraphs, sentences, split_story
from tests.storyboard.driver import opened, run

CHINESE = "从前,宋国有个农夫。一天早上，一只兔子撞在树上死了！农夫高兴极了，把兔子带回家。从此他天天坐在树下等兔子。"
TEXTS = {
    "one word": "Hello",
    "no punctuation": "the wolf came down the hill and saw the sheep " * 40,
    "chinese": CHINESE,
    "emoji": "🦊🐢🚀 😀😀 👩‍👩‍👧‍👦",
    "right to left": "في قديم الزمان كان هناك أسد نائم. جاء فأر صغير؟ غضب الأسد كثيرا.",
    "one endless word": "a" * 200_000,
    "200 KB of prose": "The lion roared at the sea. A mouse ran away in the night! " * 3_400,
    "200 KB of Chinese": "天地玄黄宇宙洪荒日月盈昃" * 5_600,
    "many tiny paragraphs": "No.\n\n" * 3_000,
    "combining marks": "e\u0301\u0327\u0323" * 500,
    "digits": "1 2 3. 4 5 6. 7 8 9.",
    "lines without paragraphs": "A fox ran.\nA crow sang.\nThe moon rose.",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_any_text_becomes_a_bounded_number_of_scenes_and_shots_and_loses_nothing(text: str) -> None:
    story = checked(text)

    scenes = write_script(story, "seed")
    shots = [shot for scene in scenes for shot in plan_shots(scene)]

    assert 1 <= len(scenes) <= MAX_SCENES
    assert len(scenes) <= len(shots) <= MAX_SHOTS
    assert [len(plan_shots(scene)) for scene in scenes] == [scene.shots for scene in scenes]
    assert "".join("".join(s.sentences) for s in scenes).replace(" ", "") == "".join(story.split())
    assert all(shot.caption and len(shot.caption) <= 150 for shot in shots)
    assert len({shot.shot_id for shot in shots}) == len(shots)


@pytest.mark.parametrize("name", ["one word", "chinese", "emoji", "right to left"])
def test_any_text_runs_through_the_whole_pipeline(name: str, tmp_path: Path) -> None:
    events = run(f"Title {name}", TEXTS[name], tmp_path)

    assert events[-1].type == "PROJECT_FINALIZED"
    with opened(tmp_path / "storyboard.gif") as gif:
        assert gif.n_frames > 10


def test_a_title_in_any_script_and_of_any_length_fits_the_names_of_files(tmp_path: Path) -> None:
    events = run("守株待兔/..\\<>:|?*" + "x" * 400, "A fox.", tmp_path)

    assert events[-1].type == "PROJECT_FINALIZED"
    assert all(len(event.blackboard_pointer or "") <= 200 for event in events)


def test_sentences_end_at_the_marks_of_many_scripts() -> None:
    assert sentences("Mr. Fox came at last. He saw Dr. Crow up there! Was it really he?") == [
        "Mr. Fox came at last.",
        "He saw Dr. Crow up there!",
        "Was it really he?",
    ]
    assert sentences("从前有一只很小的小老鼠住在森林里。他遇到了一只大狮子！“请放了我吧。”") == [
        "从前有一只很小的小老鼠住在森林里。",
        "他遇到了一只大狮子！",
        "“请放了我吧。”",
    ]
    assert sentences('"Spare me, great king!" begged the Mouse.') == ['"Spare me, great king!" begged the Mouse.']
    assert sentences("The price was 3.50 or so.") == ["The price was 3.50 or so."]


def test_paragraphs_are_split_at_empty_lines_and_their_lines_joined() -> None:
    assert paragraphs("One\nline.\n\n\n  Two. \n") == ["One line.", "Two."]


def test_a_caption_is_cut_at_a_word_and_says_so() -> None:
    cut = caption("word " * 60)

    assert len(cut) <= 132
    assert cut.endswith("word…")
    assert caption("Short.") == "Short."


def test_moods_places_and_figures_are_read_from_the_words() -> None:
    (scene,) = write_script("At midnight a frightened hare was trapped by the river, afraid of the hunter.", "seed")

    assert (scene.mood, scene.setting, scene.time) == ("fear", "river", "night")
    assert scene.cast == ("hare", "man")
    assert mood_of("The friends laughed and danced.") == "joy"
    assert cast_of("一只兔子和一只狐狸") == ("hare", "fox")


def test_a_scene_that_names_no_place_stays_where_the_story_was() -> None:
    story = "One night a wolf sat in the snow. " * 12 + "\n\n" + "Then the wolf thought for a very long time. " * 10

    scenes = write_script(story, "seed")

    assert {(scene.setting, scene.time) for scene in scenes} == {("snow", "night")}


def test_a_long_story_is_cut_into_scenes_of_about_one_length() -> None:
    scenes = split_story("The fox ran over the hill and far away. " * 500)

    lengths = [len(scene.text) for scene in scenes]
    assert len(scenes) == MAX_SCENES and is_condensed("The fox ran over the hill and far away. " * 500)
    assert max(lengths) < 1.2 * min(lengths)


def test_the_shipped_fable_is_a_story() -> None:
    story = load_story(FABLE)

    assert story.title == "The Lion and the Mouse, and the Tortoise and the Hare"
    assert story.text.startswith("One hot noon")
    assert not is_condensed(story.text)


def test_letters_without_a_font_are_known_and_others_are_not() -> None:
    assert lacking("A fox, née Smith") == ""
    assert lacking("A fox named Reineke \U00013000\u200d\U00013000") == "\U00013000"
    assert lacking("\U00013000\U00013001 \U00013000") == "\U00013000\U00013001"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b" \n\t \r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"... !!! --", "holds no letters"),
        (b"abc \xff\xfe", "is not UTF-8 (byte 4 is 0xff)"),
        (b"\xff\xfeH\x00i\x00", "is UTF-16"),
        (b"a\x00b", "U+0000"),
        (b"a" * (MAX_STORY_BYTES + 1), "more than 500,000 bytes"),
    ],
)
def test_a_file_that_is_no_story_is_refused_in_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "story.txt"
    path.write_bytes(content)

    with pytest.raises(StoryError) as refused:
        load_story(path)

    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The Fox\n\nHe ran.", "The Fox"),
        ("# The Fox #\nHe ran far away and came home again.", "The Fox"),
        ("守株待兔\n从前宋国有个农夫在田里耕地。", "守株待兔"),
        ("Once upon a time a fox who lived in the dark forest\nran away from home and came back.", "Untitled"),
        ("He ran.\n\nHe came.", "Untitled"),
        ("Only a line", "Untitled"),
    ],
)
def test_the_first_line_is_the_title_when_it_stands_by_itself(text: str, title: str) -> None:
    assert parse_story(text).title == title


def test_a_story_that_unicode_composition_makes_too_long_is_refused() -> None:
    with pytest.raises(StoryError, match="more than 500,000 bytes"):
        checked("\U0001d160" * 100_000)


def test_a_missing_file_and_a_directory_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoryError, match=r"There is no file .*nothing\.txt"):
        load_story(tmp_path / "nothing.txt")
    with pytest.raises(StoryError, match="is a directory"):
        load_story(tmp_path)
    with pytest.raises(StoryError):
        load_story("a\0b")
    with pytest.raises(StoryError):
        load_story(tmp_path / ("n" * 5_000))


def test_a_mark_at_the_beginning_windows_lines_and_controls_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "my_story.txt"
    path.write_bytes(b"\xef\xbb\xbfA fox ran.\r\nIt was \x1b[31mred\x07.\r\n")

    story = load_story(path)

    assert story.title == "my story"
    assert story.text == "A fox ran.\nIt was [31mred."


def test_letters_that_no_font_has_become_bars_or_are_left_out() -> None:
    private = "\ue123" * 30

    assert font_for(private, 20) is None
    chosen = font_for("Hello \ue123 world", 20)
    assert chosen is not None and chosen[1] == "Hello world"
    picture = Image.new("RGB", (300, 80), "white")
    write(picture, (10, 10, 290, 70), private, 20, (0, 0, 0))
    assert len(picture.getcolors(1_000) or ()) > 1


def test_a_word_wider_than_its_line_is_broken() -> None:
    chosen = font_for("a", 20)
    assert chosen is not None
    font, _ = chosen

    lines = wrap("a" * 200, font, 200, max_lines=3)

    assert len(lines) == 3
    assert all(font.getlength(line) <= 200 for line in lines)
    assert lines[-1].endswith("…")
