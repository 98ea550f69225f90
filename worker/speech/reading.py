"""From a request's text to its parts, made one after another as they are wanted."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from unicodedata import east_asian_width
from unicodedata import name as unicode_name

from batching.row import Row
from rwkv_tts.attributes import Attributes
from rwkv_tts.refusal import invalid
from sampler.decoding import Decoding
from worker.speech.kept import KeptPart
from worker.speech.utterance import Part, Script, derived_seed
from worker.text.measure import spoken_length
from worker.text.parts import Break, TextPart, pause_after, split
from worker.text.speakable import (
    Speakable,
    TextConfig,
    UnspeakableError,
    in_words,
    left_out,
    speakable,
    unmarked,
)

LONGEST_BYTES = 350
"""UTF-8 bytes of a part where the model does not say: about 25 s of English or Chinese."""

_SHORTEST_SHARE = 4
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_STRUCTURE = re.compile(r"\n[^\S\n]*\n|\[pause:", re.IGNORECASE)
"""What makes several parts of even a short text."""

_AT_ONCE = 4000
"""Characters that are split at once at least, so that a book's first words do not wait for its last."""


@dataclass(frozen=True)
class Reader:
    """What turns pieces of text into parts of one utterance.

    Attributes:
        key: Of the rows.
        seed: Of the first part.
        encode: The model's tokenizer.
        config: What the model needs of a text.
        attributes: To write before every part's text.
        transcript: What comes before every part's text; None without one.
        decoding: Makes a row's decoding for a text and its token ids, without prompt and seed.
        warn: Takes what the requester should know.
        kept: What an earlier worker has drawn, by number of the part.
    """

    key: str
    seed: int
    encode: Callable[[str], list[int]]
    config: TextConfig
    attributes: Attributes | None
    transcript: Speakable | None
    decoding: Callable[[str, list[int]], Decoding]
    warn: Callable[[str], None]
    kept: Mapping[int, KeptPart]

    def parts(self, text: str, ends_with: Callable[[float], None]) -> Iterator[Part]:
        """The parts of a request's text; at the end ``ends_with`` is told the silence that comes last, seconds.

        Raises:
            RequestError: The model cannot say it; as the part is wanted.
        """
        piece, pause = None, 0.0
        for number, piece in enumerate(self._pieces(text)):
            yield self._part(piece, number, pause if number else piece.before)
            pause = pause_after(piece)
        if piece is None:
            raise invalid("text", "nothing to speak; accepted: words, with or without pauses between them")
        ends_with(piece.pause or 0.0)

    def _pieces(self, text: str) -> Iterator[TextPart]:
        """What each part says; without markup, a text that needs no splitting stays exactly as it is."""
        try:
            plain, emoji = unmarked(text, self.config)
        except UnspeakableError as error:
            raise invalid("text", str(error)) from None
        if emoji:
            self.warn(f"text: {left_out(emoji)}")
        longest = self.config.longest or LONGEST_BYTES
        if not _STRUCTURE.search(plain.text.strip()) and spoken_length(plain.text[: longest + 1]) <= longest:
            yield TextPart(plain.text, 0, len(text), Break.PARAGRAPH)
            return
        for begin, end in _slices(plain.text):
            for piece in split(plain.text[begin:end], longest, longest // _SHORTEST_SHARE):
                start, stop = plain.span(begin + piece.start, begin + piece.end)
                yield replace(piece, start=start, end=stop)

    def _part(self, piece: TextPart, number: int, pause: float) -> Part:
        spoken = speakable_field("text", piece.text, self.config, in_words)
        text_ids = self.encode(spoken.text)
        for warning in spoken.warnings:
            self.warn(warning)
        decoding = replace(self.decoding(spoken.text, text_ids), seed=derived_seed(self.seed, number))
        part = Part(
            Row(self.key, decoding), self._script(spoken, text_ids), number, (piece.start, piece.end), pause
        )
        if (kept := self.kept.get(number)) is not None:
            if kept.attempt:
                part.attempt = kept.attempt - 1
                part.try_again(self.seed)
            part.kept = kept
        return part

    def _script(self, spoken: Speakable, text_ids: list[int]) -> Script:
        if self.transcript is None:
            return Script(text_ids, self.attributes)
        whole = join_texts(self.transcript.text, spoken.text)
        longest = self.config.longest
        if longest is not None and max(len(self.transcript.text), len(spoken.text)) <= longest < len(whole):
            self.warn(
                f"text: {len(whole)} characters with the transcript; this model was trained on up to {longest}, "
                "words may get lost; shorter texts are safer"
            )
        return Script(self.encode(whole), self.attributes, transcript=True)


def _slices(text: str) -> Iterator[tuple[int, int]]:
    """Spans of whole paragraphs, of a few pages each where there are paragraphs."""
    begin = 0
    for match in _BLANK_LINE.finditer(text):
        if match.end() - begin >= _AT_ONCE:
            yield begin, match.end()
            begin = match.end()
    if begin < len(text):
        yield begin, len(text)


def speakable_field(
    field: str, text: str, config: TextConfig, read: Callable[[str, TextConfig], Speakable] = speakable
) -> Speakable:
    """What the model is given to speak; its warnings, and the error, name the field.

    Raises:
        RequestError: The model cannot say it.
    """
    try:
        spoken = read(text, config)
    except UnspeakableError as error:
        raise invalid(field, str(error)) from None
    return Speakable(spoken.text, [f"{field}: {warning}" for warning in spoken.warnings])


def join_texts(transcript: str, text: str) -> str:
    """The transcript of a recording and the text that goes on from it, as one text.

    They are put together as they are, as the published Python system does; only between two texts in Latin
    letters a missing space is added, which would otherwise join two words or glue a full stop to the next.
    """
    edges = transcript[-1:] + text[:1]
    if any(char.isspace() or east_asian_width(char) in ("W", "F") for char in edges):
        return transcript + text
    latin = _starts_latin(reversed(transcript)) and _starts_latin(text)
    return f"{transcript} {text}" if latin else transcript + text


def _starts_latin(chars: Iterable[str]) -> bool:
    """Whether the first letter or digit is a Latin or ASCII one."""
    first = next(filter(str.isalnum, chars), "")
    return bool(first) and (first.isascii() or unicode_name(first, "").startswith("LATIN "))
