"""What is summed up of an utterance's parts as they are joined, so that nothing else of them has to be kept."""

import hashlib
import json

from sampler.decoding import FinishReason
from worker.speech.utterance import Account, Part, PartAccount


class Tally:
    """Sums over the parts that were joined, in their order."""

    def __init__(self) -> None:
        self._parts: list[PartAccount] = []
        self._semantic = self._attempts = self._steps = self._batch_total = 0
        self._decoded_at = self._vocoded_at = 0.0
        self._digest = hashlib.sha256()

    def add(self, part: Part, begin: float, end: float) -> None:
        """Count a part whose speech lies from ``begin`` to ``end``, in seconds."""
        row = part.row
        self._hash(row.decoding.globals_, row.decoding.semantic)
        tokens = len(row.decoding.semantic)
        self._parts.append(PartAccount(part.span, begin, end, row.decoding.seed, row.finished, tokens))
        self._semantic += tokens
        self._attempts += part.attempt
        self._steps += row.steps
        self._batch_total += row.batch_total
        self._decoded_at = max(self._decoded_at, row.finished_at)
        self._vocoded_at = max(self._vocoded_at, part.vocoded_at)

    def account(self, seconds: float, *, cut: bool) -> Account:
        """The sums for so much audio, which ends early where it was ``cut``."""
        whole = self._digest.copy()
        whole.update(b"]]")
        reasons = [part.finish for part in self._parts if part.finish is not FinishReason.EOS]
        return Account(
            parts=self._parts,
            seconds=seconds,
            finish=FinishReason.LENGTH if cut else next(iter(reasons), FinishReason.EOS),
            cut=cut,
            semantic=self._semantic,
            trace=whole.hexdigest(),
            attempts=self._attempts,
            mean_batch=self._batch_total / max(1, self._steps),
            decoded_at=self._decoded_at,
            vocoded_at=self._vocoded_at,
        )

    def _hash(self, globals_: list[int], semantic: list[int]) -> None:
        if not self._parts:
            self._digest.update(f"[{_json(globals_)},[".encode())
        if semantic:
            comma = "," if self._semantic else ""
            self._digest.update((comma + _json(semantic)[1:-1]).encode())


def _json(numbers: list[int]) -> str:
    return json.dumps(numbers, separators=(",", ":"))
