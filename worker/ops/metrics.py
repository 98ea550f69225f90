"""What a worker counts of its jobs for Prometheus, as they end."""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from rwkv_tts.refusal import Cause
from rwkv_tts.schema import SynthesisResult
from worker.broker.observer import Observer
from worker.broker.outcome import Fate, Outcome

PREFIX = "rwkv_tts_"
READY, READY_HELP = PREFIX + "ready", "Whether the worker takes jobs."
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250)
_REAL_TIME_FACTORS = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5)
_STAGES = ("queue", "clone", "prefill", "decode", "vocode", "encode", "total")


class Metrics(Observer):
    """The job series of one worker; its methods lock, so they are not for the engine's thread.

    Attributes:
        registry: All that the worker shows; it takes more collectors. Nothing is shared with other workers.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._claimed = self._counter("jobs_claimed", "Jobs taken off the queues.")
        self._finished = self._counter("jobs_finished", "Jobs that ended with audio.")
        self._put_back = self._counter("jobs_put_back", "Unfinished jobs that went back to their queue from here.")
        self._lost = self._counter(
            "jobs_lost", "Jobs that were cancelled, deleted or taken over while they ran here."
        )
        self._failed = self._counters(
            "jobs_failed", "Jobs that failed or were stopped, for good.", "reason", Cause
        )
        self._retried = self._counters("jobs_retried", "Failed tries of jobs that are retried.", "reason", Cause)
        self._recovered = self._counters(
            "jobs_recovered",
            "Jobs of dead workers, found by this one: put back, or abandoned after too many deaths.",
            "outcome",
            ("put_back", "abandoned"),
        )
        self._refused = self._counter(
            "commits_refused",
            "Ends of jobs that Redis refused to record, or that too few replicas confirmed; each is tried again.",
        )
        self._delivery = self._counter("delivery_seconds", "Time to record results and audio in Redis.")
        self._audio = self._counter("audio_seconds", "Audio of finished jobs.")
        self._rtf = self._histogram(
            "rtf_ratio", "Of a job: time from claim to audio over the duration of the audio.", _REAL_TIME_FACTORS
        )
        self._first_audio = self._histogram(
            "first_audio_seconds",
            "From enqueue to the first audio of a job; of one that is not a stream this is queue and total.",
            _SECONDS,
        )
        self._waits = self._counter("stream_waits", "How often somebody who listens had heard all that was made.")
        self._waited = self._counter("stream_waited_seconds", "How long such listeners had nothing to hear.")
        self._attempts = self._counter("attempts", "Draws of parts of long texts that were given up.")
        self._spans = self._counters(
            "spans", "Spans for OpenTelemetry; lost: the collector is away or slow.", "outcome", ("sent", "lost")
        )
        stages = Histogram(
            PREFIX + "stage_seconds",
            "Where the time of a job goes. queue: enqueue to claim; clone: claim to voice, if it has a reference; "
            "total: claim to audio, with all waits in between.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in _STAGES}

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(PREFIX + name, text, registry=self.registry)

    def _counters(self, name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
        """A counter for each value of a label, there from the start: a rate needs its zero."""
        counter = Counter(PREFIX + name, text, (label,), registry=self.registry)
        return {value: counter.labels(value) for value in values}

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(PREFIX + name, text, buckets=buckets, registry=self.registry)

    def show_engine(self, description: str) -> None:
        """Show what computes, as ``rwkv_tts_engine_info``."""
        Info(PREFIX + "engine", "What computes: engine, products, instruction set.", registry=self.registry).info(
            {"description": description}
        )

    def show_ready(self, ready: Callable[[], bool]) -> None:
        """Show whether the worker takes jobs, as ``rwkv_tts_ready``."""
        Gauge(READY, READY_HELP, registry=self.registry).set_function(ready)

    def spoken(self, result: SynthesisResult) -> None:
        """Count a job that has its audio."""
        times = result.timings
        seconds = {"queue": times.queued, **times.model_dump(include=set(_STAGES))}
        if result.mode != "reference":
            del seconds["clone"]
        for stage, value in seconds.items():
            self._stages[stage].observe(value)
        self._first_audio.observe(times.queued + times.first_audio)
        self._rtf.observe(result.rtf)
        self._audio.inc(result.seconds)
        self._attempts.inc(result.attempts)
        self._waits.inc(times.waits)
        self._waited.inc(times.waited)

    def count_spans(self, outcome: str, spans: int) -> None:
        """So many spans were ``sent`` or ``lost``."""
        self._spans[outcome].inc(spans)

    def claimed(self, jobs: int, /) -> None:
        self._claimed.inc(jobs)

    def ended(self, outcome: Outcome, /) -> None:
        if outcome.fate is Fate.FINISHED:
            self._finished.inc()
        elif outcome.fate is Fate.PUT_BACK:
            self._put_back.inc()
        elif outcome.tries_again:
            self._retried[_cause(outcome)].inc()
        else:
            self._failed[_cause(outcome)].inc()

    def delivered(self, seconds: float, /) -> None:
        self._delivery.inc(seconds)

    def refused(self, jobs: int, /) -> None:
        self._refused.inc(jobs)

    def lost(self, _: Outcome, /) -> None:
        self._lost.inc()

    def recovered(self, put_back: int, abandoned: int, /) -> None:
        self._recovered["put_back"].inc(put_back)
        self._recovered["abandoned"].inc(abandoned)


def _cause(outcome: Outcome) -> Cause:
    return outcome.refusal.cause if outcome.refusal else Cause.INTERNAL
