"""Subtitles of speech whose request asked for timestamps: SubRip (``.srt``) and WebVTT (``.vtt``)."""

from collections.abc import Callable, Mapping, Sequence

from rwkv_tts.schema import PartResult


def srt(text: str, parts: Sequence[PartResult]) -> str:
    """SubRip of a request's text and the ``parts`` of its result."""
    cues = (
        f"{number}\n{_time(part.begin, ',')} --> {_time(part.end, ',')}\n{_said(text, part)}\n"
        for number, part in enumerate(parts, start=1)
    )
    return "\n".join(cues)


def vtt(text: str, parts: Sequence[PartResult]) -> str:
    """WebVTT of a request's text and the ``parts`` of its result."""
    cues = (f"{_time(part.begin, '.')} --> {_time(part.end, '.')}\n{_escaped(text, part)}\n" for part in parts)
    return "\n".join(("WEBVTT\n", *cues))


WRITERS: Mapping[str, Callable[[str, Sequence[PartResult]], str]] = {"srt": srt, "vtt": vtt}
"""By the suffix of a file."""


def _said(text: str, part: PartResult) -> str:
    """A part's text in one line: a blank line would end the cue."""
    begin, end = part.text
    return " ".join(text[begin:end].split())


def _escaped(text: str, part: PartResult) -> str:
    return _said(text, part).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = round(1000 * seconds)
    minutes, left = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{left // 1000:02}{point}{left % 1000:03}"
