"""Jobs that do what the metadata of their request says, for a batch worker and for a stock one.

Metadata: ``fails`` (how many first tries raise), ``seconds`` (to take), ``held`` (run until the script releases
it, or until it is cancelled), ``refused`` (a reason: the backend does not accept the request), ``bytes`` (of
audio).
"""

import asyncio
import json
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis
from rq import get_current_job
from rq.defaults import RQ_KEY_PREFIX
from rq.job import Job

from rwkv_tts.keys import audio_key
from rwkv_tts.refusal import Cause, Refusal, invalid
from rwkv_tts.schema import SynthesisRequest, parse_request
from worker.broker.backend import Backend, Ended

ALWAYS = 1_000_000
"""As ``fails``: every try."""

RESULT_TTL = 3600
AUDIO = b"audio"
TOLD = "told" if RQ_KEY_PREFIX == "rq" else f"{RQ_KEY_PREFIX}:told"
"""Redis list of what callbacks were told."""

_POLL_SECONDS = 0.005
_LONGEST_SECONDS = 60.0


class ScriptError(RuntimeError):
    """The failure that a request asked for."""


class Script:
    """Plays requests.

    Attributes:
        started: The texts of the requests, in the order in which they started.
        most: How many have run at once.
        release: Lets the held ones end.
    """

    def __init__(self) -> None:
        self.started: list[str] = []
        self.most = 0
        self.release = threading.Event()
        self._running = 0
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()

    def start(self, request: SynthesisRequest) -> int:
        """Begin a try and return its number, from 1.

        Raises:
            RequestError: The request asks to be refused.
        """
        if "refused" in request.metadata:
            raise invalid("", str(request.metadata["refused"]))
        with self._lock:
            self.started.append(request.text)
            self._tries[request.text] += 1
            self._running += 1
            self.most = max(self.most, self._running)
            return self._tries[request.text]

    def finish(self, request: SynthesisRequest, attempt: int, cancelled: threading.Event) -> dict[str, Any]:
        """Play the rest of a try that was begun.

        Raises:
            ScriptError: The request asks to fail, or it was cancelled.
        """
        wishes = request.metadata
        try:
            if wishes.get("held"):
                self._wait(_LONGEST_SECONDS, cancelled, self.release)
            self._wait(wishes.get("seconds", 0.0), cancelled, cancelled)
        finally:
            with self._lock:
                self._running -= 1
        if attempt <= wishes.get("fails", 0):
            raise ScriptError(f"try {attempt} fails as asked")
        return {"said": request.text, "try": attempt}

    def synthesize(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stands in for ``worker.tasks.synthesize`` in a stock worker."""
        job = get_current_job()
        assert job is not None
        parsed = parse_request(request)
        result = self.finish(parsed, self.start(parsed), threading.Event())
        ttl = job.get_result_ttl(RESULT_TTL)
        if ttl != 0:
            job.connection.set(audio_key(job.id), AUDIO, ex=ttl if ttl > 0 else None)
        return result

    @staticmethod
    def _wait(seconds: float, cancelled: threading.Event, over: threading.Event) -> None:
        for _ in range(round(seconds / _POLL_SECONDS)):
            if cancelled.is_set():
                raise ScriptError("cancelled")
            if over.wait(_POLL_SECONDS) and over is not cancelled:
                return


class ScriptedBackend(Backend):
    """Runs each job in a thread of its own.

    Args:
        script: Plays the requests.
        ended: Called with every job that has ended.
        freed: Called when there is room again.
        rows: Jobs at once.
    """

    def __init__(
        self, script: Script, ended: Callable[[Ended], None], freed: Callable[[], None], rows: int = 4
    ) -> None:
        self._script, self._ended, self._freed, self._rows = script, ended, freed, rows
        self._lock = threading.Lock()
        self._running: dict[str, tuple[threading.Thread, threading.Event]] = {}
        self._refusals: dict[str, Refusal] = {}
        self._count = 0

    def submit(self, job_id: str, request: Any, queued: float, before: Sequence[bytes], /) -> None:
        parsed = parse_request(request)
        attempt = self._script.start(parsed)
        cancelled = threading.Event()
        thread = threading.Thread(target=self._run, args=(job_id, parsed, attempt, cancelled), daemon=True)
        with self._lock:
            self._running[job_id] = thread, cancelled
        thread.start()

    def cancel(self, job_id: str, refusal: Refusal, /) -> None:
        with self._lock:
            if job_id in self._running:
                self._refusals[job_id] = refusal
                self._running[job_id][1].set()

    def room(self) -> int:
        with self._lock:
            return self._rows - len(self._running)

    def progress(self) -> int | None:
        with self._lock:
            return self._count if self._running else None

    def close(self) -> None:
        with self._lock:
            threads = [thread for thread, _ in self._running.values()]
        for thread in threads:
            thread.join()

    def _run(self, job_id: str, request: SynthesisRequest, attempt: int, cancelled: threading.Event) -> None:
        try:
            audio = bytes(request.metadata.get("bytes", 0)) or AUDIO
            ended = Ended(job_id, self._script.finish(request, attempt, cancelled), {audio_key(job_id): audio})
        except ScriptError as error:
            ended = Ended(job_id, refusal=Refusal("", Cause.INTERNAL, str(error)))
        with self._lock:
            del self._running[job_id]
            refusal = self._refusals.pop(job_id, None)
            self._count += 1
        self._ended(ended if refusal is None else Ended(job_id, refusal=refusal))
        self._freed()


# Callbacks, as RQ calls them.


def tell_success(job: Job, connection: Redis, result: Any) -> None:
    """Record what on_success is called with."""
    connection.rpush(TOLD, json.dumps(["success", job.id, result]))


def tell_failure(job: Job, connection: Redis, kind: type[Exception], error: Exception, trace: Any) -> None:
    """Record what on_failure is called with."""
    assert isinstance(error, kind)
    connection.rpush(TOLD, json.dumps(["failure", job.id, str(error).splitlines()[-1]]))


def tell_stopped(job: Job, connection: Redis) -> None:
    """Record that on_stopped was called."""
    connection.rpush(TOLD, json.dumps(["stopped", job.id]))


def look(job: Job, connection: Redis, *_: Any) -> None:
    """Record what a callback sees of its job, and change the job."""
    assert job.started_at is not None
    assert job.ended_at is not None
    seconds = (job.ended_at - job.started_at).total_seconds()
    job.meta["seen"] = True
    job.save_meta()  # type: ignore[no-untyped-call]
    job.meta["saved"], job.description = True, "looked at"
    job.save()
    call = [job.func_name, job.args, job.kwargs, job.get_call_string()]
    with warnings.catch_warnings(action="ignore"):
        seen = [job.get_status(refresh=False).value, seconds >= 0, job.meta, job.result, *call]
    connection.rpush(TOLD, json.dumps(["looked", job.id, *seen]))


async def tell_later(job: Job, connection: Redis, *_: Any) -> None:
    """A callback that waits."""
    await asyncio.sleep(0.01)
    tell_stopped(job, connection)
    if job.meta.get("breaks"):
        raise ScriptError("the coroutine fails as asked")


def break_down(job: Job, connection: Redis, *_: Any) -> None:
    """A callback that fails."""
    connection.rpush(TOLD, json.dumps(["broken", job.id]))
    raise ScriptError("the callback fails as asked")


def hang(job: Job, connection: Redis, *_: Any) -> None:
    """A callback that takes longer than it may."""
    threading.Event().wait(2.0)
