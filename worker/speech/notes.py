"""Notes what is made of an utterance, for a worker that may have to go on with it."""

from worker.speech.kept import Entry
from worker.speech.utterance import Part, Utterance


class Notes:
    """Notes what is made of an utterance.

    Args:
        utterance: What earlier workers have kept of it is known already.
    """

    def __init__(self, utterance: Utterance) -> None:
        self._utterance = utterance
        kept = utterance.kept
        self._number = kept.number if kept else 0
        self._audio = kept.audio if kept else 0
        self._complete = {number for number, part in kept.parts.items() if part.finish} if kept else set()
        self._tokens = {number: len(part.tokens) for number, part in kept.parts.items()} if kept else {}

    def entry(self, part: Part, tokens: int, audio: int) -> Entry | None:
        """The next entry: a part has come as far as ``tokens``, and so many more bytes were heard.

        None where that is known already.
        """
        row, known = part.row, self._tokens.get(part.number, 0)
        tokens = max(tokens, known)
        complete = row.finished is not None and tokens == len(row.decoding.semantic)
        if tokens == known and not audio and not (complete and part.number not in self._complete):
            return None
        if complete:
            self._complete.add(part.number)
        self._number += 1
        self._audio += audio
        self._tokens[part.number] = tokens
        return Entry(
            number=self._number,
            seed=self._utterance.seed,
            voice=row.decoding.globals_,
            part=part.number,
            attempt=part.attempt,
            tokens=row.decoding.semantic[known:tokens],
            finish=row.finished if complete else None,
            audio=self._audio,
        )
