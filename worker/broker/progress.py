"""What jobs make before they end: for those who listen, and for a successor after a crash.

Entries are numbered, so that a try whose answer was lost is not written twice, and fenced as the end of a job is.
"""

import json
import time
from collections.abc import Sequence
from typing import Any

from loguru import logger
from redis import Redis

from rwkv_tts.keys import PROGRESS_META, chunks_key, kept_key
from worker.broker.backend import Made
from worker.broker.claim import HORIZON_SECONDS, Claimed
from worker.broker.commit import ServerRefusalError
from worker.broker.running import Running, RunningJobs
from worker.broker.scripts import lua
from worker.broker.tolerance import is_of_the_server

_AT_ONCE_BYTES = 4 << 20
"""Of one call of the script; a larger entry goes alone."""

_SHOWN_SECONDS = 1.0
"""Between two changes of a job's meta; jobs that take less have none."""


class Progress:
    """Writes what running jobs make; what Redis does not take waits here.

    Args:
        connection: Redis.
        jobs: Those that run.
    """

    def __init__(self, connection: Redis, jobs: RunningJobs) -> None:
        self._connection, self._jobs = connection, jobs
        self._script = connection.register_script(lua("progress"))
        self._waiting: list[Made] = []

    def add(self, made: Made) -> None:
        """A job has made something."""
        self._waiting.append(made)

    def write(self) -> None:
        """Write all that waits.

        Raises:
            ServerRefusalError: Redis refuses to write.
            redis.exceptions.RedisError: Redis is away; all of it stays for the next try.
        """
        while self._waiting:
            count = self._fitting()
            batch = [made for made in self._waiting[:count] if made.job_id in self._jobs]
            self._write(batch)
            del self._waiting[:count]

    def _write(self, batch: Sequence[Made]) -> None:
        if not batch:
            return
        arguments = self._arguments(batch)
        errors = {
            made.job_id: verdict.decode().removeprefix("error ")
            for made, verdict in zip(
                batch, self._script([arguments[0]], [HORIZON_SECONDS, *arguments]), strict=True
            )
            if verdict.startswith(b"error ")
        }
        for error in filter(is_of_the_server, errors.values()):
            raise ServerRefusalError(error, [])
        for job_id, error in errors.items():
            logger.warning("job {job}: what it has made cannot be written: {}; it is left out", error, job=job_id)

    def before(self, claimed: Claimed) -> list[bytes]:
        """What earlier executions of a job have kept for this one, in order."""
        entries: Any = self._connection.xrange(kept_key(claimed.id))
        if entries:
            claimed.job.made = int(entries[-1][0].partition(b"-")[0])
            claimed.job.heard = int(self._connection.exists(chunks_key(claimed.id)))  # at least one
        return [fields[b"kept"] for _, fields in entries if b"kept" in fields]

    def _fitting(self) -> int:
        size = 0
        for count, made in enumerate(self._waiting):
            size += len(made.heard.get("audio", b"")) + len(made.kept)
            if size > _AT_ONCE_BYTES and count:
                return count
        return len(self._waiting)

    def _arguments(self, batch: Sequence[Made]) -> list[Any]:
        arguments: list[Any] = []
        for made in batch:
            running = self._jobs.get(made.job_id)
            assert running is not None
            claimed = running.claimed
            claimed.job.made = max(claimed.job.made, made.number)
            claimed.job.heard += sum(map(len, made.heard.values()))
            heard = [word for pair in made.heard.items() for word in pair]
            kept = ["kept", made.kept] if made.kept else []
            keys = (chunks_key(made.job_id), kept_key(made.job_id))
            arguments += [claimed.queue.started_job_registry.key, claimed.member, *keys, made.number]
            arguments += [claimed.job.key, _meta(running, made), len(heard), *heard, len(kept), *kept]
        return arguments


def _meta(running: Running, made: Made) -> str:
    """The job's new meta, where it is time to show how far it has come; else empty."""
    job, now = running.claimed.job, time.monotonic()
    if not made.shown or now < running.shown_at + _SHOWN_SECONDS or not job.meta_is_whole:
        return ""
    if not isinstance(job.meta, dict):
        return ""
    running.shown_at = now
    job.meta[PROGRESS_META] = dict(made.shown)
    return json.dumps(job.meta)
