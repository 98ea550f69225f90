"""What the benchmark asks a worker to say: texts of three lengths, in both modes, the same for equal seeds."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Request = dict[str, Any]

LENGTHS = {"short": (10, 50), "medium": (50, 200), "long": (200, 500)}
"""Characters, the least and the most."""

MODES = ("normal", "zero-shot")
LOAD = ("medium", "short")
"""Lengths of the jobs under load, in turn; alone, every length is measured by itself."""

GENDERS = ("female", "male")
CUT_SECONDS = 4.0
"""Of speech, where a long text is to be read but not spoken in full."""

LIMITS = (5.0, 10.0)
"""Seconds of speech at which a job of a full queue is cut, the least and the most."""

SENTENCES = (
    "The kettle is on the stove.",
    "Our train leaves at noon from the far platform.",
    "She keeps her maps in a wooden box.",
    "Rain is expected in the hills tonight.",
    "Please close the gate behind you.",
    "The bakery opens before the sun is up.",
    "He wrote a long letter to his sister.",
    "Nobody had seen the river so low.",
    "Two boats came back without any fish.",
    "The lamp in the hall needs a new bulb.",
    "We met the doctor on the way to the market.",
    "A cold wind blew over the empty field.",
    "Turn left at the church and follow the wall.",
    "The children painted the fence green.",
    "My brother repairs old clocks and radios.",
    "They sold the house and moved to the coast.",
    "Dinner will be ready in a few minutes.",
    "The old dog sleeps beside the door.",
    "You may leave your coat and bag with me.",
    "The museum is closed on the first of the month.",
)
"""Each fits a short text."""


def compose(rng: random.Random, least: int, most: int) -> str:
    """Whole sentences with ``least`` to ``most`` characters together."""
    longest = max(map(len, SENTENCES))
    target = rng.randint(min(least + longest, most), most)
    text = rng.choice(SENTENCES)
    while len(longer := f"{text} {rng.choice(SENTENCES)}") <= target:
        text = longer
    return text


@dataclass(frozen=True)
class Workload:
    """Requests from a seed; ``voices`` are ids of stored voices, at least one."""

    voices: Sequence[str]
    seed: int

    def jobs(self, count: int, lengths: Sequence[str] = LOAD, modes: Sequence[str] = MODES) -> list[Request]:
        """Requests that go through the lengths in turn, and from round to round through the modes."""
        rng = random.Random(f"{self.seed} {lengths} {modes}")  # noqa: S311 - texts, not secrets
        return [
            self._job(rng, number, lengths[number % len(lengths)], modes[number // len(lengths) % len(modes)])
            for number in range(count)
        ]

    def warm_up(self) -> list[Request]:
        """The beginning of a text of each length in both modes."""
        jobs = self.jobs(len(LENGTHS) * len(MODES), tuple(LENGTHS))
        return [job | {"max_seconds": CUT_SECONDS} for job in jobs]

    def prefill_heavy(self, count: int) -> list[Request]:
        """Long texts of which only the beginning is spoken, beside medium ones: prefill beside decode."""
        jobs = self.jobs(count, lengths=("long", "medium"))
        return [job | {"max_seconds": CUT_SECONDS} if i % 2 == 0 else job for i, job in enumerate(jobs)]

    def limited(self, count: int) -> list[Request]:
        """Medium and long texts, each with a limit of its own, where a model that says no end of its own stops."""
        rng = random.Random(self.seed)  # noqa: S311 - lengths, not secrets
        jobs = self.jobs(count, lengths=("medium", "long"))
        return [job | {"max_seconds": round(rng.uniform(*LIMITS), 2)} for job in jobs]

    def _job(self, rng: random.Random, number: int, length: str, mode: str) -> Request:
        job: Request = {"text": compose(rng, *LENGTHS[length]), "seed": self.seed + number}
        if mode == "zero-shot":
            return job | {"voice": rng.choice(self.voices)}
        return job | {"gender": rng.choice(GENDERS)}
