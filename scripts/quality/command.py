"""How well a model speaks: held-out sentences, compared with the teacher's recordings of the same.

    python scripts/quality [--model DIR] [--quick] [--only words,attributes] [--check]
    python scripts/quality --only regression --check
    python scripts/quality --write-baseline

Sections: words (accuracy of a recogniser, of the teacher's), attributes (words, pitch and duration by level),
retrieval (mel-cepstral distortion), endings, clones (zero-shot), regression (a fixed set, batched and alone,
within the limits of baseline.json: the worst of 5 seeds with slack, written by ``--write-baseline``),
codec (resynthesis, without marks; of models that read mel frames) and speed. Needs flite and pocketsphinx. The
last line is JSON. Exits 0, 1 when ``--check`` is given and a mark is missed, 2 when something needed is not there.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import numpy as np
import soundfile
from rich.console import Console

from codec.bicodec import BiCodec
from quality import sections
from quality.recording import SAMPLE_RATE
from quality.regression import TURNS, measures, read_baseline, regression, turn_lines, write_baseline
from quality.report import Findings, Mark, marks_table
from quality.sections import SECTIONS
from quality.speech import Line, Rendering, encode_voice, pace, speak, teach, with_voices
from quality.study import QUICK, Plan, Study, sentence_line
from train_demo_voice.teacher import TeacherError
from worker.settings import DEFAULT_MODEL
from worker.speech.config import ModelError
from worker.speech.engines import EngineName
from worker.speech.loading import open_model
from worker.speech.model import LocalModel

WIDTH = 120
"""Of tables that no terminal shows."""


@dataclass
class Evaluation:
    """A run of the program: the model, a pool for what is slow, and what was found so far."""

    directory: Path
    speech: LocalModel
    pool: Executor
    rows: int
    names: Sequence[str]
    study: Study
    console: Console
    findings: dict[str, Findings] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def marks(self) -> list[Mark]:
        return [mark for findings in self.findings.values() for mark in findings.marks]

    @property
    def lines(self) -> dict[str, list[Line]]:
        return {name: SECTIONS[name].lines(self.study.plan) for name in self.names}

    def run(self) -> None:
        """Speak all lines of all sections, measure them, judge."""
        lines = self.lines
        with self._timed("speed"):
            if "speed" in self.names:
                self.findings["speed"] = sections.speed(self._paces())
        with self._timed("teacher"):
            self.study.teacher.update(teach(self.pool, self._renderings(lines)))
        with self._timed("speak"):
            if "clones" in self.names:
                self._clone()
            self.study.takes.update(speak(self.speech, self._of(lines, "spoken"), self.rows))
        with self._timed("recognise"):
            self.study.listen(self.pool, self._of(lines, "words"))
        with self._timed("pitch"):
            self.study.track(self.pool, self._of(lines, "pitch"))
        with self._timed("judge"):
            for name, judge in self._judges().items():
                if name in self.names:
                    self.findings[name] = judge()

    def _of(self, lines: dict[str, list[Line]], need: str) -> list[Line]:
        return [line for name, chosen in lines.items() if getattr(SECTIONS[name], need) for line in chosen]

    def _judges(self) -> dict[str, Callable[[], Findings]]:
        study = self.study
        return {
            "words": lambda: sections.words(study),
            "attributes": lambda: sections.attributes(study),
            "retrieval": lambda: sections.retrieval(study, self.pool),
            "endings": lambda: sections.endings(study),
            "clones": self._judge_clones,
            "regression": self._judge_regression,
            "codec": lambda: sections.resynthesis(study, self._codec(), self.pool),
        }

    def _paces(self) -> list[Any]:
        return [
            pace(self.speech, [sentence_line(i, "slt") for i in range(rows)], self.study.plan.turns)
            for rows in self.study.plan.concurrent
        ]

    def _renderings(self, lines: dict[str, list[Line]]) -> Iterator[Rendering]:
        for line in self._of(lines, "teacher"):
            yield line.reference
        if "clones" in self.names:
            yield from sections.clip_renderings(self.study.plan).values()
            for renderings in sections.centroid_renderings(self.study.plan).values():
                yield from renderings

    def _codec(self) -> BiCodec:
        return BiCodec.load(self.directory / "bicodec", encoder=True)

    def _clone(self) -> None:
        """Store a voice for each clip."""
        codec = self._codec()
        clips = sections.clip_renderings(self.study.plan)
        self.speech = with_voices(
            self.speech, {voice: encode_voice(codec, self.study.audio(clip)) for voice, clip in clips.items()}
        )

    def _judge_clones(self) -> Findings:
        lines = sections.clone_lines(self.study.plan)
        first = {line.reference.speaker: line for line in reversed(lines)}.values()
        alone = {line: take for each in first for line, take in speak(self.speech, [each], rows=1).items()}
        return sections.clones(self.study, self._codec(), alone)

    def _judge_regression(self) -> Findings:
        """The first turn, batched, and alone where that sounds otherwise; several turns are a new baseline."""
        plan = self.study.plan
        lines = turn_lines(0, plan)
        if plan.regressions > 1:
            turns = [turn_lines(turn, plan) for turn in range(plan.regressions)]
            write_baseline([measures(self.study, self.pool, turn) for turn in turns])
        alone = speak(self.speech, lines, rows=1)
        if all(np.array_equal(alone[line].samples, self.study.samples(line)) for line in lines):
            return regression({"batched and alone": measures(self.study, self.pool, lines)}, read_baseline())
        single = self.study.retaken(alone)
        single.listen(self.pool, lines)
        studies = {"batched": self.study, "alone": single}
        found = {name: measures(study, self.pool, lines) for name, study in studies.items()}
        return regression(found, read_baseline())

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        begin = time.perf_counter()
        with self.console.status(name):
            yield
        self.seconds[name] = round(time.perf_counter() - begin, 1)

    def summary(self) -> dict[str, Any]:
        """Everything, for the JSON line."""
        return {
            "model": self.speech.config.name,
            "ok": all(mark.ok for mark in self.marks),
            "seconds": self.seconds,
            "runs": len(self.study.takes),
            "marks": {mark.name: mark.line() for mark in self.marks},
            "sections": {name: findings.data for name, findings in self.findings.items()},
        }


def save(study: Study, directory: Path) -> None:
    """Write every take and recording as a WAV file whose name says what it is."""
    directory.mkdir(parents=True, exist_ok=True)
    for line, take in study.takes.items():
        name = f"model-{_name(line.reference)}-{line.voice or 'attributes'}-{line.seed}"
        soundfile.write(directory / f"{name}.wav", take.samples, SAMPLE_RATE)
    for rendering, samples in study.teacher.items():
        soundfile.write(directory / f"teacher-{_name(rendering)}.wav", samples, SAMPLE_RATE)


def _name(rendering: Rendering) -> str:
    words = "_".join(rendering.text.lower().split()[:5])
    letters = "".join(letter for letter in words if letter.isalnum() or letter == "_")
    return f"{rendering.speaker}-{rendering.pitch}-{rendering.speed}-{letters}"


def missing(names: Sequence[str]) -> str | None:
    """What the sections need and is not installed, as a line for people, or None."""
    flite = os.environ.get("FLITE", "flite")
    if any(SECTIONS[name].teacher for name in names) and shutil.which(flite) is None:
        return f"{flite} is missing: apt-get install flite, or set FLITE to the program"
    if any(SECTIONS[name].words for name in names) and find_spec("pocketsphinx") is None:
        return "pocketsphinx is missing: pip install 'rwkv-tts-worker[dev]'"
    return None


def section_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    return names


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python scripts/quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="a model directory")
    parser.add_argument(
        "--only", type=section_names, default=list(SECTIONS), metavar="SECTIONS", help="with commas between"
    )
    parser.add_argument("--quick", action="store_true", help="a few sentences of each section")
    parser.add_argument("--sentences", type=int, help="whose words are counted")
    parser.add_argument("--seeds", type=int, help="that each of them is spoken with")
    parser.add_argument("--rows", type=int, default=32, help="lines spoken at once")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--device", default="cpu", help="of torch")
    parser.add_argument("--engine", choices=get_args(EngineName), default="auto", help="that decodes")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that recognise")
    parser.add_argument("--write-baseline", action="store_true", help="measure the limits of the regression anew")
    parser.add_argument("--check", action="store_true", help="exit 1 when a mark is missed")
    parser.add_argument("--json", type=Path, help="write the last line to this file, too")
    parser.add_argument("--save", type=Path, help="write all recordings to this directory")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    chosen = {
        name: getattr(options, name) for name in ("sentences", "seeds") if getattr(options, name) is not None
    }
    if options.write_baseline:
        chosen["regressions"] = TURNS
    return replace(QUICK if options.quick else Plan(), **chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    if options.write_baseline:
        options.only = ["regression"]
    try:
        speech = open_model(options.model, options.device, threads=options.threads, engine=options.engine)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    lacking = missing(options.only)
    if lacking is not None:
        print(f"error: {lacking}", file=sys.stderr)
        return 2
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        names = [name for name in options.only if name != "codec" or speech.config.features == "mel"]
        evaluation = Evaluation(options.model, speech, pool, options.rows, names, Study(plan_of(options)), console)
        try:
            evaluation.run()
        except TeacherError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    return report(evaluation, options)


def report(evaluation: Evaluation, options: argparse.Namespace) -> int:
    for findings in evaluation.findings.values():
        for table in findings.tables:
            evaluation.console.print(table)
    evaluation.console.print(marks_table(evaluation.marks))
    summary = evaluation.summary()
    if options.save is not None:
        save(evaluation.study, options.save)
    text = json.dumps(summary)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)
    return int(options.check and not summary["ok"])
