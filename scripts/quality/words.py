"""Word accuracy by a recogniser: pocketsphinx with the English model that its package carries."""

import re
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from quality.recording import SAMPLE_RATE, Samples

PADDING = np.zeros(SAMPLE_RATE // 5, dtype=np.int16)
"""Silence around a recording: a recogniser expects some, and utterances differ in theirs."""
DECODER = {"cmn": "batch", "loglevel": "FATAL"}
"""Batch normalisation makes a result independent of what was heard before. The rest is the package's default:
tighter beams lost up to 15 points on the teacher's voices, wider ones cost half the speed for no gain."""
CHUNK = 8


@dataclass(frozen=True)
class Score:
    """Reference words and the errors in hearing them; scores add up.

    Attributes:
        errors: Substitutions, deletions and insertions.
        texts: How many utterances are in here.
        first: Of how many the first word was heard, and ``last`` the last one.
    """

    words: int = 0
    errors: int = 0
    texts: int = 0
    first: int = 0
    last: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    @property
    def accuracy(self) -> float:
        """One minus the word error rate; negative when there are more errors than words."""
        return 1 - self.errors / self.words if self.words else 0.0


def words_of(text: str) -> list[str]:
    """Lower-case words without punctuation; a hyphen separates."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


def score(reference: str, heard: str) -> Score:
    """Align two texts with the fewest errors."""
    expected, found = words_of(reference), words_of(heard)
    table = _edit_table(expected, found)
    hits = _hits(table, expected, found)
    return Score(
        len(expected), int(table[-1, -1]), 1, int(bool(expected) and 0 in hits), int(len(expected) - 1 in hits)
    )


def _edit_table(expected: Sequence[str], found: Sequence[str]) -> "np.ndarray[Any, np.dtype[np.int64]]":
    table = np.zeros((len(expected) + 1, len(found) + 1), dtype=np.int64)
    table[:, 0], table[0] = np.arange(len(expected) + 1), np.arange(len(found) + 1)
    for i, word in enumerate(expected, 1):
        for j, other in enumerate(found, 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (word != other))
    return table


def _hits(table: "np.ndarray[Any, np.dtype[np.int64]]", expected: Sequence[str], found: Sequence[str]) -> set[int]:
    """Positions of the expected words that one best alignment pairs with themselves."""
    hits, i, j = set(), len(expected), len(found)
    while i and j:
        same = expected[i - 1] == found[j - 1]
        if table[i, j] == table[i - 1, j - 1] + (not same):
            i, j = i - 1, j - 1
            if same:
                hits.add(i)
        elif table[i, j] == table[i - 1, j] + 1:
            i -= 1
        else:
            j -= 1
    return hits


def transcribe(recordings: Iterable[Samples]) -> list[str]:
    """What the recogniser hears in recordings, int16 [N] each; an empty one is silence."""
    return [_hear(samples) for samples in recordings]


def _hear(samples: Samples) -> str:
    decoder = _decoder()
    decoder.start_utt()
    decoder.process_raw(np.concatenate([PADDING, samples, PADDING]).tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return "" if hypothesis is None else str(hypothesis.hypstr)


@cache
def _decoder() -> Any:
    """One recogniser for each process."""
    from pocketsphinx import Decoder

    return Decoder(**DECODER)


def transcribe_all(pool: Executor, recordings: Sequence[Samples]) -> list[str]:
    """Transcribe in a pool's processes, in order."""
    chunks = [recordings[start : start + CHUNK] for start in range(0, len(recordings), CHUNK)]
    return [text for texts in pool.map(transcribe, chunks) for text in texts]
