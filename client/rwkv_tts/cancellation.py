"""Cancels jobs so that no lost message undoes it."""

import time
from contextlib import suppress
from importlib.resources import files

from redis.exceptions import RedisError, WatchError
from rq.command import send_stop_job_command
from rq.exceptions import InvalidJobOperation
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from rwkv_tts.keys import CANCELLED_PREFIX
from rwkv_tts.results import ENDED

_NOTE = files(__package__).joinpath("lua/cancel.lua").read_text()
_DAY_SECONDS = 24 * 3600


def cancel(job: Job) -> bool:
    """Take a job off its queue, or have it stopped where it runs; False when it has ended already."""
    while (status := job.get_status()) not in ENDED:
        if _stop(job) if status == JobStatus.STARTED else _take_off(job):
            return True
    return False


def _stop(job: Job) -> bool:
    """Leave a note, which workers read at every sign of life, and tell the one at once; False: it does not run."""
    keys = job.key, CANCELLED_PREFIX + job.origin
    if not job.connection.eval(_NOTE, len(keys), *keys, job.id, time.time(), _DAY_SECONDS):
        return False
    with suppress(RedisError, InvalidJobOperation):  # the note says it, too, a moment later
        send_stop_job_command(job.connection, job.id, serializer=JSONSerializer)
    return True


def _take_off(job: Job) -> bool:
    """Cancel a job that does not run; False when something has happened to it meanwhile."""
    if job.has_rate_limit:  # RQ cancels these in a transaction of its own only
        job.cancel()
        return True
    with job.connection.pipeline() as pipeline:
        pipeline.watch(job.key)
        if job.get_status() in (*ENDED, JobStatus.STARTED):
            return False
        pipeline.multi()
        job.cancel(pipeline=pipeline)
        with suppress(WatchError):
            pipeline.execute()
            return True
    return False
