"""Whatever the bytes are, a reader answers with a value or with an error of its own, soon.

How many are tried is `EVENTBUS_FUZZ_EXAMPLES` for each reader; bytes that once broke one are in `corpus/` for good.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz import targets, web_targets
from tests.fuzz.budget import EXAMPLES, SEED
from tests.fuzz.damage import damaged, each_value_replaced, packed
from tests.fuzz.deadline import no_hang
from tests.fuzz.targets import Target

TARGETS = targets.TARGETS | web_targets.TARGETS
CORPUS = Path(__file__).parent / "corpus"
KEPT = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*"))


def read(target: Target, data: bytes) -> None:
    """Have it read; an error that is not one of its own goes to the caller, and so does a hang."""
    with no_hang():
        try:
            target.run(data)
        except target.errors as error:
            assert str(error).strip(), f"{type(error).__name__} says nothing."


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_answers_damaged_bytes_with_a_value_or_an_error_of_its_own(name: str) -> None:
    target = TARGETS[name]
    kept = [(CORPUS / path).read_bytes() for path in KEPT if path.startswith(f"{name}/")]

    @seed(SEED)
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(packed() if name == "packed_import_file" else st.one_of(damaged([*target.examples, *kept])))
    def try_it(data: bytes) -> None:
        read(target, data)

    try_it()


@pytest.mark.parametrize("name", TARGETS)
def test_each_value_of_an_example_may_be_anything(name: str) -> None:
    for example in TARGETS[name].examples:
        for data in each_value_replaced(example):
            try:
                read(TARGETS[name], data)
            except BaseException as error:
                raise AssertionError(f"{data[:400]!r} broke it: {type(error).__name__}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_reads_its_first_example(name: str) -> None:
    for data in TARGETS[name].examples[:1]:
        read(TARGETS[name], data)


@pytest.mark.parametrize("kept", KEPT)
def test_what_once_broke_a_reader_breaks_none(kept: str) -> None:
    data = (CORPUS / kept).read_bytes()

    read(TARGETS[kept.partition("/")[0]], data)
    for target in TARGETS.values():
        read(target, data)
