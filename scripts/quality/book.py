"""Speak a long text as one job and its parts as jobs of their own, and compare what is heard.

    python scripts/quality/book.py [--characters 20000] [--model DIR] [--device cpu] [--rows 16] [--keep FOLDER]

Held-out sentences in paragraphs of eight. The recogniser hears every part where ``timestamps`` says that it is,
and the same part of its own job: words right of one against the other. One voice: every part's speaker embedding
(resemblyzer, if it is installed; else this room's timbre) beside those of the first part and of a man. Seams: the
largest step between two samples from the end of a part to the beginning of the next, and the silence there. The
worker's memory is its resident set before and at its largest meanwhile.

The last line is JSON; the exit code is 1 when a mark is missed.
"""

import argparse
import io
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

if not __package__:  # as in __main__.py
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import psutil
import soundfile

from quality.distance import timbre
from quality.recording import SAMPLE_RATE, Audio, Samples, as_audio, median_pitch
from quality.words import Score, score, transcribe_all
from rwkv_tts import Speech, TTSClient
from train_demo_voice.held_out import HELD_OUT
from worker.cli.local import local_worker, redis_server
from worker.settings import DEFAULT_MODEL, Settings

PARAGRAPH = 8
LEAST_WORDS, MOST_STEP, MOST_WALL, MOST_MEGABYTES = 0.95, 0.01, 1.15, 50
SEAM_SECONDS = 0.005
SILENT = 0.003


@dataclass(frozen=True)
class Spoken:
    """A text as it was spoken: the whole samples, and of each part its text and where it is."""

    samples: Samples
    texts: Sequence[str]
    spans: Sequence[tuple[float, float]]
    wall: float
    attempts: int

    @property
    def parts(self) -> list[Samples]:
        return [self.samples[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)] for a, b in self.spans]


def text_of(characters: int) -> str:
    """Sentences in paragraphs, at least so many characters."""
    lines: list[str] = []
    length = 0
    while length < characters:
        sentence = HELD_OUT[len(lines) % len(HELD_OUT)]
        lines.append(sentence)
        length += len(sentence) + 1
    paragraphs = (lines[i : i + PARAGRAPH] for i in range(0, len(lines), PARAGRAPH))
    return "\n\n".join(" ".join(paragraph) for paragraph in paragraphs)


def speak(client: TTSClient, text: str, **request: Any) -> Spoken:
    """The text as one job."""
    start = time.perf_counter()
    speech = client.result(client.submit(text, timestamps=True, **request), keep=False)
    wall = time.perf_counter() - start
    parts = speech.result.parts or ()
    return Spoken(
        samples_of(speech),
        [text[slice(*part.text)] for part in parts],
        [(part.begin, part.end) for part in parts],
        wall,
        speech.result.attempts,
    )


def speak_apart(client: TTSClient, texts: Sequence[str], **request: Any) -> tuple[list[Samples], float]:
    """Each text as a job of its own, and the wall time of all."""
    start = time.perf_counter()
    jobs = [client.submit(text, **request) for text in texts]
    found = [samples_of(client.result(job, keep=False)) for job in jobs]
    return found, time.perf_counter() - start


def samples_of(speech: Speech) -> Samples:
    samples, _ = soundfile.read(io.BytesIO(speech.audio), dtype="int16")
    return np.asarray(samples)


@contextmanager
def watched(pid: int) -> Iterator[list[int]]:
    """Resident bytes of a process: what it has now and, when it is over, the most that it had."""
    process, over = psutil.Process(pid), threading.Event()
    found = [process.memory_info().rss] * 2

    def watch() -> None:
        while not over.wait(0.2):
            found[1] = max(found[1], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    yield found
    over.set()
    thread.join()


def words(pool: ProcessPoolExecutor, texts: Sequence[str], recordings: Sequence[Samples]) -> Score:
    heard = transcribe_all(pool, recordings)
    return sum(map(score, texts, heard), Score())


def embedder() -> Callable[[Audio], Any]:
    """How a voice is told: a vector of length 1."""
    if find_spec("resemblyzer") is None:
        print("resemblyzer is not installed: voices are told by timbre", file=sys.stderr)
        return lambda audio: _unit(timbre(audio, median_pitch(audio)))
    from resemblyzer import VoiceEncoder, preprocess_wav

    encoder = VoiceEncoder("cpu", verbose=False)
    return lambda audio: encoder.embed_utterance(preprocess_wav(audio))


def _unit(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


def nearest_is_first(parts: Sequence[Samples], others: Sequence[Samples]) -> tuple[float, float]:
    """The share of parts whose voice is nearer to the first part's than to any other; the least likeness to it."""
    embed = embedder()
    first, strangers = embed(as_audio(parts[0])), [embed(as_audio(other)) for other in others]
    vectors = [embed(as_audio(part)) for part in parts[1:]]
    right = [float(v @ first) > max(float(v @ stranger) for stranger in strangers) for v in vectors]
    return float(np.mean(right)), min(float(v @ first) for v in vectors)


def seams(spoken: Spoken) -> tuple[float, list[float]]:
    """The largest step between two samples near a join, full scale 1; the silence at each, seconds."""
    audio, steps, gaps = as_audio(spoken.samples), [0.0], []
    near = round(SEAM_SECONDS * SAMPLE_RATE)
    for (_, end), (begin, _) in pairwise(spoken.spans):
        a, b = round(end * SAMPLE_RATE), round(begin * SAMPLE_RATE)
        steps.append(float(np.abs(np.diff(audio[max(0, a - 1) : b + 1])).max(initial=0)))
        loud = np.flatnonzero(np.abs(audio[a - near : b + near]) > SILENT)
        gaps.append(float(np.diff(loud).max(initial=0) / SAMPLE_RATE))
    return max(steps), gaps


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=20_000)
    parser.add_argument("--model", type=Path, default=DEFAULT_MODEL, help="model directory")
    parser.add_argument("--device", default="cpu", help="torch device of the worker")
    parser.add_argument("--rows", type=int, default=16, help="max_rows of the worker")
    parser.add_argument("--processes", type=int, default=2, help="that listen")
    parser.add_argument("--keep", type=Path, help="folder for book.wav and its parts' times")
    options = parser.parse_args(arguments)
    settings = Settings(model=options.model, device=options.device, max_rows=options.rows, log_level="WARNING")
    text, request = text_of(options.characters), {"gender": "female", "seed": 5}
    with redis_server(settings) as url, local_worker(settings, url) as worker:
        worker.wait_until_ready()
        client = TTSClient(url, settings.queue[0])
        speak_apart(client, list(HELD_OUT[: options.rows]), **request)  # what is made once is made
        with watched(worker.pid) as memory:
            book = speak(client, text, **request)
        encoded = 2 * len(book.samples)
        apart, wall = speak_apart(client, book.texts, **request)
        voices = sorted(
            path.name.removesuffix(".raf.json") for path in (settings.model / "voices").glob("*.raf.json")
        )
        others, _ = speak_apart(client, [HELD_OUT[0]] * 2, gender="male", seed=6)
        print(f"{len(text)} characters, {len(book.texts)} parts; stored voices: {', '.join(voices) or 'none'}")
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        soundfile.write(options.keep / "book.wav", book.samples, SAMPLE_RATE)
        (options.keep / "book.json").write_text(json.dumps({"texts": book.texts, "spans": book.spans}))
    with ProcessPoolExecutor(options.processes) as pool:
        whole, single = words(pool, book.texts, book.parts), words(pool, book.texts, apart)
    same, likeness = nearest_is_first(book.parts, others)
    step, gaps = seams(book)
    seconds, apart_seconds = len(book.samples) / SAMPLE_RATE, sum(map(len, apart)) / SAMPLE_RATE
    beyond = (memory[1] - memory[0] - encoded) / 1e6
    per_second = book.wall / seconds / (wall / apart_seconds)
    found = {
        "characters": len(text),
        "parts": len(book.texts),
        "audio_s": round(seconds, 1),
        "wall_s": round(book.wall, 1),
        "wall_beside_separate_jobs": round(book.wall / wall, 3),
        "per_audio_second_beside_separate_jobs": round(per_second, 3),
        "words_right": round(whole.accuracy, 4),
        "words_right_apart": round(single.accuracy, 4),
        "first_voice_nearest": round(same, 4),
        "least_likeness": round(likeness, 3),
        "largest_step_at_a_join": round(step, 4),
        "gaps_s": sorted({round(gap, 2) for gap in gaps}),
        "attempts_again": book.attempts,
        "memory_beyond_audio_mb": round(beyond, 1),
    }
    missed = [
        *(["words"] if whole.accuracy < LEAST_WORDS * single.accuracy else []),
        *(["voice"] if same < 1 else []),
        *(["seams"] if step > MOST_STEP else []),
        *(["wall"] if per_second > MOST_WALL else []),
        *(["memory"] if beyond > MOST_MEGABYTES else []),
    ]
    print(json.dumps(found | {"missed": missed}))
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
