"""An RQ worker that runs many jobs at once: claim, start, speak, finish."""

import queue
import time
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from typing import Any

from loguru import logger
from redis import Redis
from rq.command import parse_payload
from rq.executions import Execution
from rq.serializers import JSONSerializer
from rq.utils import now
from rq.worker import BaseWorker
from rq.worker.base import WorkerStatus

from worker.claim import Claimed, Claimer
from worker.jobs import SpeechJob
from worker.keys import audio_key
from worker.pipeline import Pipeline
from worker.schema import RequestError
from worker.synthesis import Utterance, make_result, make_utterance
from worker.watcher import QueueWatcher

_TICK_SECONDS = 1.0
_LOST_RACE_SECONDS = 0.05
_HEARTBEATS_IN_ONE_PIPELINE = 100


class _Signal(Enum):
    JOBS = auto()
    ROOM = auto()
    STOP = auto()


_Message = Utterance | _Signal
"""What the main thread waits for: an utterance that has ended, or a reason to look around."""


MakePipeline = Callable[[Callable[[Utterance], None], Callable[[], None]], Pipeline]


class BatchWorker(BaseWorker):
    """Drains queues into a pipeline; to every RQ tool it is a worker with several executions.

    Args:
        queues: Queue names, by priority.
        connection: Redis; replies must not be decoded.
        make_pipeline: Builds the pipeline around two callbacks, for ended utterances and for freed rows.
        max_jobs: Jobs that may be in the worker at once, those in the vocoder and the encoder included.
        payload_limit: Bytes that a job's decoded data may have.
    """

    def __init__(
        self,
        queues: Sequence[str],
        connection: Redis,
        make_pipeline: MakePipeline,
        *,
        max_jobs: int,
        payload_limit: int,
        name: str | None = None,
        result_ttl: int = 500,
        maintenance_interval: int = 600,
    ) -> None:
        super().__init__(
            list(queues),
            name=name,
            connection=connection,
            default_result_ttl=result_ttl,
            maintenance_interval=maintenance_interval,
            job_class=SpeechJob,
            serializer=JSONSerializer,
        )
        self._max_jobs = max_jobs
        self._claimer = Claimer(connection, payload_limit)
        self._inbox: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._jobs: dict[str, Claimed] = {}
        self._stopping: set[str] = set()
        self._next_heartbeat = 0.0
        self._notified = False
        self._may_arm_at = 0.0
        self._watchers = [
            QueueWatcher(connection, q.key, partial(self._inbox.put, _Signal.JOBS)) for q in self.queues
        ]
        self._pipeline = make_pipeline(self._inbox.put, partial(self._inbox.put, _Signal.ROOM))

    def work(self, burst: bool = False, logging_level: str | None = "WARNING", *_: Any, **__: Any) -> bool:
        """Work until told to stop; with ``burst`` until the queues are empty.

        Returns:
            Whether any job was finished.
        """
        self.bootstrap(logging_level)
        self._install_signal_handlers()
        for watcher in self._watchers:
            watcher.start()
        worked = False
        try:
            while True:
                self._keep_alive()
                emptied = self._stop_requested or self._claim_jobs()
                if not self._jobs and (self._stop_requested or (burst and emptied)):
                    return worked
                worked |= self._finish_next(self._patience())
        finally:
            self._close()

    def _close(self) -> None:
        for watcher in self._watchers:
            watcher.stop()
        if not self._jobs:
            self._pipeline.close()
        self.teardown()

    # Claim and start.

    def _room(self) -> int:
        """Jobs that may be claimed now: free rows, as long as the later stages keep up."""
        return min(self._pipeline.free_rows(), self._max_jobs - len(self._jobs))

    def _claim_jobs(self) -> bool:
        """Claim, start and hand over as many jobs as there is room for; True when the queues ran empty."""
        room, total = self._room(), 0
        for rq_queue in self.queues:
            while room > 0:
                taken, claimed = self._claimer.claim(rq_queue, room, self._jobs.keys())
                if taken == 0:
                    break
                self._start(claimed)
                room -= len(claimed)
                total += taken
        if self._notified and total == 0:
            # Another worker was faster, or workers are suspended: do not spin on the job that is still there.
            self._may_arm_at = time.monotonic() + _LOST_RACE_SECONDS
        self._notified = False
        return room > 0

    def _start(self, batch: Sequence[Claimed]) -> None:
        """Record all jobs as started in one transaction, then serve or refuse each."""
        if not batch:
            return
        with self.connection.pipeline() as pipeline:
            for claimed in batch:
                self._record_start(claimed, pipeline)
            self.set_state(WorkerStatus.BUSY, pipeline=pipeline)
            self.heartbeat(pipeline=pipeline)
            pipeline.execute()
        for claimed in batch:
            self._jobs[claimed.job.id] = claimed
            self._hand_over(claimed)

    def _record_start(self, claimed: Claimed, pipeline: Any) -> None:
        job = claimed.job
        execution = Execution.create(job, self.get_heartbeat_ttl(job), pipeline=pipeline, worker_name=self.name)
        claimed.execution = self.executions[execution.id] = execution
        job.prepare_for_execution(self.name, pipeline=pipeline)
        pipeline.persist(job.key)
        pipeline.lrem(claimed.queue.intermediate_queue_key, 1, job.id)

    def _hand_over(self, claimed: Claimed) -> None:
        if claimed.request is None:
            self._refuse(claimed, claimed.refusal or "")
            return
        job = claimed.job
        queued = (now() - job.enqueued_at).total_seconds() if job.enqueued_at else 0.0
        try:
            utterance = make_utterance(self._pipeline.speech, job.id, claimed.request, max(0.0, queued))
        except RequestError as error:
            self._refuse(claimed, str(error))
        else:
            self._pipeline.submit(utterance)

    def _refuse(self, claimed: Claimed, reason: str) -> None:
        """Fail a job that no retry can help."""
        claimed.job.retries_left = None
        self._fail(claimed, reason)

    # Finish.

    def _patience(self) -> float:
        """How long to wait for a message; arms the watchers when there is room for more jobs."""
        if self._stop_requested or self._room() <= 0:
            return _TICK_SECONDS
        wait = self._may_arm_at - time.monotonic()
        if wait > 0:
            return wait
        for watcher in self._watchers:
            watcher.arm()
        return _TICK_SECONDS

    def _finish_next(self, timeout: float) -> bool:
        """Wait for one message, then take all there are; True when a job was finished."""
        try:
            message = self._inbox.get(timeout=timeout)
        except queue.Empty:
            return False
        finished = False
        while True:
            if isinstance(message, Utterance):
                self._finish(message)
                finished = True
            else:
                self._notified |= message is _Signal.JOBS
            try:
                message = self._inbox.get_nowait()
            except queue.Empty:
                return finished

    def _finish(self, utterance: Utterance) -> None:
        claimed = self._jobs[utterance.id]
        if utterance.error is not None:
            self._fail(claimed, utterance.error)
            return
        job, ttl = claimed.job, claimed.job.get_result_ttl(self.default_result_ttl)
        result = make_result(utterance, self._pipeline.sample_rate)
        if ttl != 0:
            self.connection.set(audio_key(job.id), utterance.audio, ex=ttl if ttl > 0 else None)
        job._result = result.model_dump(mode="json")
        job.ended_at = now()
        self.handle_job_success(job, claimed.queue, job.started_job_registry, claimed.execution)
        self._forget(claimed)

    def _fail(self, claimed: Claimed, reason: str) -> None:
        job = claimed.job
        job.ended_at = now()
        if job.id in self._stopping:
            self._stopped_job_id = job.id
        logger.info("job {} failed: {}", job.id, reason)
        self.handle_job_failure(
            job, claimed.queue, job.started_job_registry, exc_string=reason, execution=claimed.execution
        )
        self._forget(claimed)

    def _forget(self, claimed: Claimed) -> None:
        self._jobs.pop(claimed.job.id, None)
        self._stopping.discard(claimed.job.id)
        if not self._jobs:
            self.set_state(WorkerStatus.IDLE)

    # Heartbeats, commands, signals.

    def _keep_alive(self) -> None:
        """Refresh the worker's and all executions' time to live, and run RQ's maintenance, when due."""
        if time.monotonic() < self._next_heartbeat:
            return
        self._next_heartbeat = time.monotonic() + self.job_monitoring_interval
        running = list(self._jobs.values())
        for i in range(0, max(1, len(running)), _HEARTBEATS_IN_ONE_PIPELINE):
            with self.connection.pipeline() as pipeline:
                self.heartbeat(pipeline=pipeline)
                for claimed in running[i : i + _HEARTBEATS_IN_ONE_PIPELINE]:
                    self._beat(claimed, pipeline)
                pipeline.execute()
        if self.should_run_maintenance_tasks:
            self.run_maintenance_tasks()

    def _beat(self, claimed: Claimed, pipeline: Any) -> None:
        job = claimed.job
        ttl = self.job_monitoring_interval + 60
        claimed.execution.heartbeat(job.started_job_registry, ttl, pipeline=pipeline)
        job.heartbeat(now(), ttl, pipeline=pipeline)

    def handle_payload(self, message: dict[Any, Any]) -> None:
        """Take a command from RQ's channel; ``stop-job`` may name any of the running jobs."""
        payload = parse_payload(message)
        if payload.get("command") != "stop-job":
            super().handle_payload(message)
        elif payload.get("job_id") in self._jobs:
            self._stopping.add(payload["job_id"])
            self._pipeline.cancel(payload["job_id"])

    def _shutdown(self) -> None:
        """Stop claiming; the jobs inside are finished first."""
        self._stop_requested = True
        self._inbox.put(_Signal.STOP)
