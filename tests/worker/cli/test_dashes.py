"""Texts that begin with a dash, among options."""

import pytest

from worker.cli.dashes import texts_last

FLAGS = {"--play", "--help"}


@pytest.mark.parametrize(
    "text", ["-5 degrees", "-5", "- first item", "--help yourself", "-ish is a suffix", "---", "-\n", "--a\nb"]
)
@pytest.mark.parametrize(
    "options",
    [[], ["-o", "-"], ["--seed", "1", "--play"], ["--reference-text", "-1 is cold", "--seed=-3", "-oa.wav"]],
)
def test_a_text_is_told_from_options_before_and_behind_it(text: str, options: list[str]) -> None:
    for args in ([text, *options], [*options, text], [*options, "--", text]):
        assert texts_last(args, FLAGS) == [*options, "--", text]


def test_what_follows_two_dashes_is_text_whatever_it_is() -> None:
    assert texts_last(["--play", "--", "--seed", "--"], FLAGS) == ["--play", "--", "--seed", "--"]


@pytest.mark.parametrize(
    "args",
    [["hello"], ["hello", "-o", "a b.wav"], ["--seed", "--play"], ["--unknown"], ["-x"], ["-o", "-", "--a=b c"]],
)
def test_everything_else_stays(args: list[str]) -> None:
    assert texts_last(args, FLAGS) == [*args, "--"]
