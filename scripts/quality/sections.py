"""The questions of the evaluation, one function each, and the marks that the demo voice must reach."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import torch

from codec.bicodec import BiCodec
from quality.distance import Array, Centroids, distance_table, distortion, normalized_cepstra, timbre
from quality.recording import as_audio, measure
from quality.regression import regression_lines
from quality.report import Findings
from quality.speech import (
    BY_NAME,
    CLONE,
    PITCH_LEVELS,
    SPEED_LEVELS,
    Line,
    Pace,
    Rendering,
    Take,
    encode_voice,
    resynthesize,
)
from quality.study import (
    NAMES,
    Plan,
    Study,
    attribute_lines,
    ending_lines,
    level_line,
    level_lines,
    retrieval_lines,
    seed,
    sentence_line,
    voice_lines,
    written_lines,
)
from quality.words import Score, score, transcribe_all
from rwkv_tts.attributes import ATTRIBUTES
from train_demo_voice.held_out import HELD_OUT

WORDS_OF_TEACHER = 0.95
WORDS_OF_TEACHER_IN_A_PART = 0.85
RETRIEVED = 1.0
ENDED = 0.99
TRAILING_SECONDS = 1.0
ORDERED = 0.95
CLONED = 1.0
RTF = 0.25
AUDIO_PER_SECOND: Mapping[int, float] = {8: 10.0, 32: 15.0}
CLIPPED_SAMPLES = 1e-3
"""A recording with a larger share of clipped samples counts as clipped."""


def ratio(scores: tuple[Score, Score]) -> float:
    """Word accuracy of the model over the teacher's."""
    ours, theirs = scores
    return ours.accuracy / theirs.accuracy if theirs.accuracy > 0 else 0.0


_SCORE_COLUMNS = ("runs", "words", "heard", "teacher", "ratio", "first", "teacher", "last", "teacher")


def _score_row(scores: tuple[Score, Score]) -> list[object]:
    ours, theirs = scores
    shares = [count / max(s.texts, 1) for count, s in ((ours.first, ours), (theirs.first, theirs))]
    shares += [count / max(s.texts, 1) for count, s in ((ours.last, ours), (theirs.last, theirs))]
    return [ours.texts, ours.words, ours.accuracy, theirs.accuracy, ratio(scores), *shares]


def _score_line(scores: tuple[Score, Score]) -> dict[str, float]:
    ours, theirs = scores
    return {
        "runs": ours.texts,
        "words": ours.words,
        "accuracy": ours.accuracy,
        "teacher": theirs.accuracy,
        "ratio": ratio(scores),
    }


def words_lines(plan: Plan) -> list[Line]:
    return attribute_lines(plan) + voice_lines(plan) + written_lines(plan)


def words(study: Study) -> Findings:
    """Word accuracy against the teacher's: by attributes, in stored voices, and of written forms."""
    found = Findings()
    by_attributes, by_voice, written = (
        lines(study.plan) for lines in (attribute_lines, voice_lines, written_lines)
    )
    groups = {"attributes": by_attributes, "voices": by_voice, "written": written}
    parts = {
        f"{group} {name}": [line for line in lines if line.reference.speaker == name]
        for group, lines in groups.items()
        for name in NAMES
    }
    for attribute in ("gender", "age"):
        for value in ATTRIBUTES[attribute]:
            chosen = [line for line in by_attributes if getattr(line.speaker, attribute) == value]
            if chosen:
                parts[f"{attribute} {value}"] = chosen
    rows = {name: study.score(lines) for name, lines in {**groups, **parts}.items()}
    found.tabulate("word accuracy", ("", *_SCORE_COLUMNS), [(name, *_score_row(s)) for name, s in rows.items()])
    found.data = {name: _score_line(scores) for name, scores in rows.items()}
    for group in groups:
        limit = WORDS_OF_TEACHER_IN_A_PART if group == "written" else WORDS_OF_TEACHER
        found.least(f"words: {group}", ratio(rows[group]), limit, f"{rows[group][0].texts} runs")
    found.worst("words: worst part", {part: ratio(rows[part]) for part in parts}, WORDS_OF_TEACHER_IN_A_PART)
    return found


def attributes(study: Study) -> Findings:
    """Words, pitch and duration at every level of pitch and speed."""
    found = Findings()
    lines = level_lines(study.plan)
    rows: dict[str, list[Line]] = {}
    for level in PITCH_LEVELS:
        rows[level] = [line for line in lines if (line.reference.pitch, line.reference.speed) == (level, "medium")]
    for level in SPEED_LEVELS:
        rows[level] = [
            line for line in lines if (line.reference.pitch, line.reference.speed) == ("medium_pitch", level)
        ]
    scores = {level: study.score(chosen) for level, chosen in rows.items()}
    found.tabulate(
        "word accuracy by level", ("", *_SCORE_COLUMNS), [(n, *_score_row(s)) for n, s in scores.items()]
    )
    found.data["words"] = {level: _score_line(s) for level, s in scores.items()}
    found.worst(
        "attributes: words at the worst level",
        {level: ratio(scores[level]) for level in scores},
        WORDS_OF_TEACHER_IN_A_PART,
    )
    _levels(study, found, "pitch", PITCH_LEVELS, "Hz", lambda item: study.pitch(item))
    _levels(study, found, "speed", SPEED_LEVELS, "s", lambda item: len(study.samples(item)) / 16_000)
    _genders(study, found)
    return found


Item = Line | Rendering


def _levels(
    study: Study, found: Findings, attribute: str, levels: Sequence[str], unit: str, value: Callable[[Item], float]
) -> None:
    """Whether pitch rises and duration falls from level to level, in each sentence of model and teacher."""
    sign = 1 if attribute == "pitch" else -1
    rows, shares = [], {}
    for name in NAMES:
        for who in ("model", "teacher"):
            values = np.empty((study.plan.levels, len(levels)))
            for i, j in np.ndindex(*values.shape):
                line = level_line(i, name, **{attribute: levels[j]})
                values[i, j] = value(line if who == "model" else line.reference)
            monotonic = float((np.diff(sign * values) > 0).all(axis=1).mean())
            shares[f"{name} {who}"] = monotonic
            rows.append((f"{name}, {who}", *np.median(values, axis=0).tolist(), monotonic))
            found.data.setdefault(attribute, {})[f"{name} {who}"] = {
                "monotonic": monotonic,
                "median": dict(zip(levels, np.median(values, axis=0).tolist(), strict=True)),
            }
    found.tabulate(f"{attribute}: median {unit}", ("", *levels, "monotonic"), rows)
    ours = {name: shares[f"{name} model"] for name in NAMES}
    found.worst(f"attributes: {attribute} monotonic, worst speaker", ours, ORDERED)


def _genders(study: Study, found: Findings) -> None:
    """Whether the female voice of an age is the higher one, level by level and sentence by sentence."""
    pairs = [
        (a, b)
        for a in NAMES
        for b in NAMES
        if _age(a) == _age(b) and (_gender(a), _gender(b)) == ("female", "male")
    ]
    shares = {}
    for level in PITCH_LEVELS:
        for female, male in pairs:
            higher = [
                study.pitch(level_line(i, female, pitch=level)) > study.pitch(level_line(i, male, pitch=level))
                for i in range(study.plan.levels)
            ]
            shares[f"{female} over {male}, {level}"] = float(np.mean(higher))
    found.data["female higher"] = shares
    found.worst("attributes: female above male, worst level", shares, ORDERED)


def _age(name: str) -> str:
    return BY_NAME[name].age


def _gender(name: str) -> str:
    return BY_NAME[name].gender


def retrieval(study: Study, pool: Executor) -> Findings:
    """Whether each line is nearest to the teacher's recording of the same sentence, among all the others."""
    found, rows = Findings(), []
    count = study.plan.retrieval
    lines = retrieval_lines(study.plan)
    groups = [lines[start : start + count] for start in range(0, len(lines), count)]
    spoken = [[normalized_cepstra(study.audio(line)) for line in group] for group in groups]
    taught = [[normalized_cepstra(study.audio(line.reference)) for line in group] for group in groups]
    for group, table in zip(groups, pool.map(distance_table, spoken, taught), strict=True):
        own, share = np.diag(table), float((table.argmin(axis=1) == np.arange(count)).mean())
        other = (table.sum() - own.sum()) / max(table.size - count, 1)
        mode = "voices" if group[0].voice else "attributes"
        rows.append((f"{mode} {group[0].reference.speaker}", count, float(own.mean()), float(other), share))
    columns = ("sentences", "own", "others", "retrieved")
    found.tabulate("mel-cepstral distortion, dB", ("", *columns), rows)
    found.data = {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}
    found.worst("retrieval: worst speaker", {row[0]: row[4] for row in rows}, RETRIEVED)
    return found


def endings(study: Study) -> Findings:
    """How all the runs of the evaluation ended, and the silence around their speech."""
    found, takes = Findings(), study.takes
    by_eos = float(np.mean([take.finish == "eos" for take in takes.values()]))
    signals = [measure(take.audio) for take in takes.values() if len(take.samples)]
    failures = [take.finish for take in takes.values() if not len(take.samples)]
    trailing = max((signal.trailing for signal in signals), default=float("inf"))
    found.data = {
        "runs": len(takes),
        "eos": by_eos,
        "failed": len(failures),
        "failures": sorted(set(failures))[:5],
        "trailing max": trailing,
        "leading max": max((signal.leading for signal in signals), default=float("inf")),
        "leading mean": _mean([signal.leading for signal in signals]),
        "trailing mean": _mean([signal.trailing for signal in signals]),
        "silent frames": _mean([signal.silent for signal in signals]),
        "clipped runs": _mean([signal.clipped > CLIPPED_SAMPLES for signal in signals]),
    }
    found.tabulate("endings", ("", "value"), [(k, v) for k, v in found.data.items() if k != "failures"])
    found.least("endings: by EOS", by_eos, ENDED, f"{len(takes)} runs")
    found.most("endings: longest trailing silence, s", trailing, TRAILING_SECONDS)
    return found


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def clip_sentence(clip: int) -> int:
    """The sentence that a clip is a recording of, counted from the end; cloned voices say those from the start."""
    return len(HELD_OUT) - 1 - clip


def clip_renderings(plan: Plan) -> dict[str, Rendering]:
    """The recordings that are cloned, by the id of their voice."""
    return {
        CLONE.format(name, clip): Rendering(HELD_OUT[clip_sentence(clip)], name)
        for name in NAMES
        for clip in range(plan.clips)
    }


def clone_lines(plan: Plan) -> list[Line]:
    """Each cloned voice says a sentence that is not that of its clip."""
    lines = []
    for voice, rendering in clip_renderings(plan).items():
        index = int(voice.rsplit("-", 1)[1])
        text = HELD_OUT[index]
        lines.append(Line(text, Rendering(text, rendering.speaker), voice, seed(index)))
    return lines


def centroid_renderings(plan: Plan) -> dict[str, list[Rendering]]:
    """Recordings that say how each speaker sounds; of sentences that no clone speaks and none is made of."""
    middle = len(HELD_OUT) // 2
    return {name: [Rendering(HELD_OUT[middle + i], name) for i in range(plan.examples)] for name in NAMES}


def clones(study: Study, codec: BiCodec, alone: Mapping[Line, Take]) -> Findings:
    """Whether cloned voices are nearest to the speaker of their clip.

    Args:
        codec: With its encoder: the voice it hears is the second measure.
        alone: Lines that were spoken in no company, to compare with.
    """
    found = Findings()
    examples = centroid_renderings(study.plan)
    measures: dict[str, Callable[[Item], Array]] = {
        "spectrum": lambda item: timbre(study.audio(item), study.pitch(item)),
        "codec": lambda item: _heard_voice(codec, study, item),
    }
    lines = clone_lines(study.plan)
    for name, vector in measures.items():
        centroids = Centroids.of({speaker: [vector(r) for r in items] for speaker, items in examples.items()})
        table = {speaker: dict.fromkeys(NAMES, 0) for speaker in NAMES}
        for line in lines:
            table[line.reference.speaker][_nearest(centroids, vector, study, line)] += 1
        right = sum(table[speaker][speaker] for speaker in NAMES) / len(lines)
        theirs = [centroids.nearest(vector(line.reference)) == line.reference.speaker for line in lines]
        found.data[name] = {"right": right, "teacher": float(np.mean(theirs)), "confusion": table}
        rows = [(speaker, *row.values()) for speaker, row in table.items()]
        found.tabulate(
            f"clones, nearest speaker by {name}: {right:.2f}, teacher {np.mean(theirs):.2f}",
            ("clip of", *NAMES),
            rows,
        )
    found.least("clones: nearest speaker is the clip's", found.data["spectrum"]["right"], CLONED)
    same = float(np.mean([study.takes[line].tokens == take.tokens for line, take in alone.items()]))
    found.data["same alone"] = same
    found.least("clones: same tokens alone as in a mixed batch", same, 1.0)
    return found


def _nearest(centroids: Centroids, vector: Callable[[Item], Array], study: Study, line: Line) -> str:
    """The nearest speaker; an empty take counts for one that is wrong."""
    if len(study.takes[line].samples):
        return centroids.nearest(vector(line))
    return next(name for name in NAMES if name != line.reference.speaker)


def _heard_voice(codec: BiCodec, study: Study, item: Item) -> Array:
    """The vector [C] of the voice that the codec's speaker encoder hears."""
    tokens = torch.tensor([encode_voice(codec, study.audio(item))])
    vector: Array = codec.speaker_vector(tokens)[0].double().numpy()
    return vector


def codec_lines(plan: Plan) -> list[Line]:
    """What the codec repeats: the lines themselves are not spoken by it."""
    return [sentence_line(i, name) for name in NAMES for i in range(plan.resyntheses)]


def resynthesis(study: Study, codec: BiCodec, pool: Executor) -> Findings:
    """What the codec alone loses: the teacher's recordings as tokens and back. No mark; the limit of the others.

    Args:
        codec: With its encoder, of a model that needs no wav2vec 2.0.
    """
    found, rows = Findings(), []
    for name in NAMES:
        references = [line.reference for line in codec_lines(study.plan) if line.reference.speaker == name]
        again = [resynthesize(codec, study.samples(reference)) for reference in references]
        heard = zip(references, transcribe_all(pool, again), strict=True)
        ours = sum((score(reference.text, text) for reference, text in heard), Score())
        theirs = sum((score(reference.text, study.heard[reference]) for reference in references), Score())
        pairs = zip(references, again, strict=True)
        losses = [distortion(as_audio(samples), study.audio(reference)) for reference, samples in pairs]
        rows.append((name, *_score_row((ours, theirs))[:5], _mean(losses)))
        found.data[name] = {**_score_line((ours, theirs)), "distortion": _mean(losses)}
    found.tabulate("codec alone", ("", *_SCORE_COLUMNS[:5], "dB"), rows)
    return found


def speed(paces: Sequence[Pace]) -> Findings:
    """Real-time factor of one request, throughput of many."""
    found = Findings()
    found.tabulate(
        "speed",
        ("requests at once", "audio s / s", "RTF", "s"),
        [(str(p.rows), p.audio_per_second, p.rtf, p.seconds) for p in paces],
    )
    for p in paces:
        found.data[str(p.rows)] = {"audio_per_second": p.audio_per_second, "rtf": p.rtf}
        if p.rows == 1:
            found.most("speed: real-time factor of one request", p.rtf, RTF)
        if p.rows in AUDIO_PER_SECOND:
            found.least(f"speed: audio s / s at {p.rows}", p.audio_per_second, AUDIO_PER_SECOND[p.rows])
    return found


def no_lines(plan: Plan) -> list[Line]:  # noqa: ARG001 - speed speaks lines of its own
    return []


@dataclass(frozen=True)
class Section:
    """A part of the evaluation: its lines, and what must be known of them before they are judged."""

    lines: Callable[[Plan], list[Line]]
    teacher: bool = True
    words: bool = False
    pitch: bool = False
    spoken: bool = True


SECTIONS: Mapping[str, Section] = {
    "words": Section(words_lines, words=True),
    "attributes": Section(level_lines, words=True, pitch=True),
    "retrieval": Section(retrieval_lines),
    "endings": Section(ending_lines, teacher=False),
    "clones": Section(clone_lines, pitch=True),
    "regression": Section(regression_lines, words=True, pitch=True),
    "codec": Section(codec_lines, words=True, spoken=False),
    "speed": Section(no_lines, teacher=False),
}
