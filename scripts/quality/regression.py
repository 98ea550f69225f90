"""The quality regression: a few fixed sentences, measured closely, within limits that were measured before."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path

import numpy as np

from quality.distance import distance_table, normalized_cepstra
from quality.recording import measure
from quality.report import Findings
from quality.speech import Line
from quality.study import NAMES, Plan, Study, sentence_line
from quality.words import score

BASELINE = Path(__file__).with_name("baseline.json")
TURNS = 5
"""Seeds whose worst is the limit, with slack."""
SLACK = 1.15
"""On what should be small."""
SHARE_SLACK = 0.05
"""On shares of lines, which should be large."""

Measures = Mapping[str, float]
SHARES = ("ended", "retrieved", "first word heard", "last word heard")
ERRORS = ("distortion, dB", "duration error", "pitch error", "leading silence, s", "trailing silence, s")


def regression_lines(plan: Plan) -> list[Line]:
    """Every speaker's fixed sentences, by attributes and in stored voices by turns, for each turn's seed."""
    return [line for turn in range(plan.regressions) for line in turn_lines(turn, plan)]


def turn_lines(turn: int, plan: Plan) -> list[Line]:
    return [sentence_line(i, name, turn, voice=bool(i % 2)) for name in NAMES for i in range(plan.regression)]


def measures(study: Study, pool: Executor, lines: Sequence[Line]) -> Measures:
    """What is measured of one turn: shares of lines, errors as means, silences as the longest."""
    if any(not len(study.samples(line)) for line in lines):
        return {**dict.fromkeys(SHARES, 0.0), **dict.fromkeys(ERRORS, float("inf"))}
    own, retrieved = _distances(study, pool, lines)
    heard = [score(line.reference.text, study.heard[line]) for line in lines]
    durations = [len(study.samples(line)) / len(study.samples(line.reference)) for line in lines]
    signals = [measure(study.audio(line)) for line in lines]
    pitches = [study.pitch(line) / study.pitch(line.reference) for line in lines]
    return {
        "ended": float(np.mean([study.takes[line].finish == "eos" for line in lines])),
        "retrieved": retrieved,
        "first word heard": float(np.mean([s.first for s in heard])),
        "last word heard": float(np.mean([s.last for s in heard])),
        "distortion, dB": own,
        "duration error": float(np.abs(np.log(durations)).mean()),
        "pitch error": float(np.abs(np.log(pitches)).mean()) if min(pitches) > 0 else float("inf"),
        "leading silence, s": max(signal.leading for signal in signals),
        "trailing silence, s": max(signal.trailing for signal in signals),
    }


def _distances(study: Study, pool: Executor, lines: Sequence[Line]) -> tuple[float, float]:
    """Mean distortion to the own recording, and the share of lines that it is the nearest of."""
    groups = [[line for line in lines if line.reference.speaker == name] for name in NAMES]
    spoken = [[normalized_cepstra(study.audio(line)) for line in group] for group in groups]
    taught = [[normalized_cepstra(study.audio(line.reference)) for line in group] for group in groups]
    tables = list(pool.map(distance_table, spoken, taught))
    own = np.concatenate([np.diag(table) for table in tables])
    nearest = np.concatenate([table.argmin(axis=1) == np.arange(len(table)) for table in tables])
    return float(own.mean()), float(nearest.mean())


def limits(turns: Sequence[Measures]) -> dict[str, float]:
    """The worst of several turns, with slack."""
    found = {name: max(0.0, min(turn[name] for turn in turns) - SHARE_SLACK) for name in SHARES}
    return found | {name: SLACK * max(turn[name] for turn in turns) for name in ERRORS}


def write_baseline(turns: Sequence[Measures], path: Path = BASELINE) -> None:
    rounded = {name: round(value, 4) for name, value in limits(turns).items()}
    path.write_text(json.dumps(rounded, indent=2) + "\n", encoding="utf-8")


def read_baseline(path: Path = BASELINE) -> dict[str, float]:
    found: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    return found


def regression(turns: Mapping[str, Measures], allowed: Mapping[str, float]) -> Findings:
    """Judge turns, by name, by the limits of the baseline."""
    found = Findings(data={name: dict(turn) for name, turn in turns.items()})
    rows = [(name, *(turn[name] for turn in turns.values()), allowed[name]) for name in (*SHARES, *ERRORS)]
    found.tabulate("regression", ("", *turns, "limit"), rows)
    for who, turn in turns.items():
        for name in SHARES:
            found.least(f"regression {who}: {name}", turn[name], allowed[name])
        for name in ERRORS:
            found.most(f"regression {who}: {name}", turn[name], allowed[name])
    return found
