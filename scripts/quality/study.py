"""The material of an evaluation: which lines are spoken, and what was made of each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from quality.recording import Audio, Samples, as_audio, median_pitch
from quality.speech import PITCH_LEVELS, SPEED_LEVELS, Line, Rendering, Take
from quality.words import Score, score, transcribe_all
from train_demo_voice.held_out import HELD_OUT, HELD_OUT_WRITTEN
from train_demo_voice.speakers import SPEAKERS

SEED_STEP = 7919
"""Between the seeds of two turns. Sentences have seeds of their own, or all would draw the same random numbers."""


@dataclass(frozen=True)
class Plan:
    """How much is spoken.

    Attributes:
        sentences: Held-out sentences whose words are counted, of each speaker ``seeds`` times by its attributes
            and once in its stored voice.
        written: Sentences with numbers, dates and abbreviations.
        levels: Sentences spoken at every pitch and every speed.
        retrieval: Sentences to find again among each other.
        runs: Runs of which each must end by itself.
        clips: Recordings of each speaker to clone.
        examples: Recordings that say how each speaker sounds.
        resyntheses: Recordings of each speaker that the codec repeats.
        regression: Fixed sentences of each speaker that are measured closely.
        regressions: Seeds that they are spoken with.
        turns: Measurements of speed.
    """

    sentences: int = 100
    written: int = 24
    seeds: int = 2
    levels: int = 40
    retrieval: int = 50
    runs: int = 200
    clips: int = 5
    examples: int = 12
    resyntheses: int = 25
    regression: int = 10
    regressions: int = 1
    turns: int = 3
    concurrent: tuple[int, ...] = (1, 8, 32)


QUICK = Plan(
    sentences=3,
    written=2,
    seeds=1,
    levels=1,
    retrieval=4,
    runs=16,
    clips=1,
    examples=4,
    resyntheses=1,
    turns=1,
    concurrent=(1, 8),
)
NAMES = tuple(speaker.name for speaker in SPEAKERS)


def seed(index: int, turn: int = 0) -> int:
    return index + SEED_STEP * turn


def sentence_line(index: int, speaker: str, turn: int = 0, *, voice: bool = False) -> Line:
    """A held-out sentence by a speaker's attributes, or in the stored voice of the speaker's name."""
    text = HELD_OUT[index]
    return Line(text, Rendering(text, speaker), speaker if voice else None, seed(index, turn))


def attribute_lines(plan: Plan) -> list[Line]:
    return [
        sentence_line(i, name, turn)
        for name in NAMES
        for turn in range(plan.seeds)
        for i in range(min(plan.sentences, len(HELD_OUT)))
    ]


def voice_lines(plan: Plan) -> list[Line]:
    return [
        sentence_line(i, name, voice=True) for name in NAMES for i in range(min(plan.sentences, len(HELD_OUT)))
    ]


def written_lines(plan: Plan) -> list[Line]:
    return [
        Line(text, Rendering(spoken, name), None, seed(i))
        for name in NAMES
        for i, (text, spoken) in enumerate(HELD_OUT_WRITTEN[: plan.written])
    ]


def level_lines(plan: Plan) -> list[Line]:
    """Every pitch at medium speed and every speed at medium pitch."""
    levels = [(pitch, "medium") for pitch in PITCH_LEVELS]
    levels += [("medium_pitch", speed) for speed in SPEED_LEVELS if speed != "medium"]
    return [level_line(i, name, *level) for name in NAMES for level in levels for i in range(plan.levels)]


def level_line(index: int, speaker: str, pitch: str = "medium_pitch", speed: str = "medium") -> Line:
    text = HELD_OUT[index]
    return Line(text, Rendering(text, speaker, pitch, speed), None, seed(index))


def retrieval_lines(plan: Plan) -> list[Line]:
    return [
        sentence_line(i, name, voice=voice)
        for voice in (False, True)
        for name in NAMES
        for i in range(plan.retrieval)
    ]


def ending_lines(plan: Plan) -> list[Line]:
    """Runs in both modes, of different sentences and seeds."""
    count = len(NAMES) * 2
    return [
        sentence_line(
            (run // count) % len(HELD_OUT),
            NAMES[run // 2 % len(NAMES)],
            run // (count * len(HELD_OUT)),
            voice=bool(run % 2),
        )
        for run in range(plan.runs)
    ]


@dataclass
class Study:
    """Takes and recordings, with what is heard and measured in them."""

    plan: Plan
    takes: dict[Line, Take] = field(default_factory=dict)
    teacher: dict[Rendering, Samples] = field(default_factory=dict)
    heard: dict[Line | Rendering, str] = field(default_factory=dict)
    pitches: dict[Line | Rendering, float] = field(default_factory=dict)

    def retaken(self, takes: dict[Line, Take]) -> "Study":
        """The same recordings of the teacher beside other takes."""
        again = Study(self.plan, takes, self.teacher)
        again.heard.update((item, text) for item, text in self.heard.items() if isinstance(item, Rendering))
        again.pitches.update((item, hertz) for item, hertz in self.pitches.items() if isinstance(item, Rendering))
        return again

    def samples(self, item: Line | Rendering) -> Samples:
        return self.takes[item].samples if isinstance(item, Line) else self.teacher[item]

    def audio(self, item: Line | Rendering) -> Audio:
        return as_audio(self.samples(item))

    def _known(self, lines: Iterable[Line]) -> Iterator[Line | Rendering]:
        for line in lines:
            if line in self.takes:
                yield line
            yield line.reference

    def listen(self, pool: Executor, lines: Iterable[Line]) -> None:
        """Let the recogniser hear lines that were spoken, and what the teacher makes of all."""
        items = _new(self._known(lines), self.heard)
        self.heard.update(zip(items, transcribe_all(pool, [self.samples(item) for item in items]), strict=True))

    def track(self, pool: Executor, lines: Iterable[Line]) -> None:
        """Measure the pitch of lines and of the teacher's."""
        items = _new(self._known(lines), self.pitches)
        found = pool.map(_pitch, [self.samples(item) for item in items], chunksize=16)
        self.pitches.update(zip(items, found, strict=True))

    def pitch(self, item: Line | Rendering) -> float:
        """Median fundamental frequency in Hz."""
        if item not in self.pitches:
            self.pitches[item] = _pitch(self.samples(item))
        return self.pitches[item]

    def score(self, lines: Sequence[Line]) -> tuple[Score, Score]:
        """Of the model, and of the teacher for the same lines."""
        return (
            sum((score(line.reference.text, self.heard[line]) for line in lines), Score()),
            sum((score(line.reference.text, self.heard[line.reference]) for line in lines), Score()),
        )


def _new(items: Iterable[Line | Rendering], done: Mapping[Line | Rendering, object]) -> list[Line | Rendering]:
    return [item for item in dict.fromkeys(items) if item not in done]


def _pitch(samples: Samples) -> float:
    return median_pitch(as_audio(samples))
