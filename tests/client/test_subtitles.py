"""Subtitles: what a player reads is what was said, and when."""

from rwkv_tts.schema import PartResult
from rwkv_tts.subtitles import srt, vtt

TEXT = "One & two.\n\nThree < four,\nand more."
PARTS = [
    PartResult(text=(0, 10), begin=0.0625, end=1.5, seed=1, finish_reason="eos"),
    PartResult(text=(12, len(TEXT)), begin=59.9996, end=3_723.0, seed=2, finish_reason="eos"),
]


def test_subrip() -> None:
    assert srt(TEXT, PARTS) == (
        "1\n00:00:00,062 --> 00:00:01,500\nOne & two.\n\n"
        "2\n00:01:00,000 --> 01:02:03,000\nThree < four, and more.\n"
    )


def test_webvtt_escapes_what_it_would_read_as_markup() -> None:
    assert vtt(TEXT, PARTS) == (
        "WEBVTT\n\n00:00:00.062 --> 00:00:01.500\nOne &amp; two.\n\n"
        "00:01:00.000 --> 01:02:03.000\nThree &lt; four, and more.\n"
    )
