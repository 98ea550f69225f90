"""Speech out of Celery, in one file: ``celery --app celery_app worker``; REDIS_URL says where the queue of speech
is, CELERY_BROKER_URL and CELERY_RESULT_BACKEND where Celery's own things are.

``speak({"text": "Hello."})`` returns Celery's result; its value is the path of the audio. Celery's workers wait
for nothing: a job that has not ended is looked at again later.
"""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from celery import Celery, Task, chain
from celery.result import AsyncResult
from rq.exceptions import DuplicateJobError

from rwkv_tts import JobFailedError, QueueFullError, TTSClient, parse_request

AGAIN_SECONDS = 0.5
FOLDER = Path(os.environ.get("AUDIO_FOLDER", "."))

app = Celery("speech")
app.conf.update(task_serializer="json", accept_content=["json"], task_acks_late=True)


@cache
def client() -> TTSClient:
    return TTSClient(os.environ["REDIS_URL"])


@app.task(bind=True, autoretry_for=(QueueFullError,), retry_backoff=True, max_retries=None)
def submit(self: Task, fields: dict[str, Any]) -> str:
    """Queue a request, whose fields are those of ``SynthesisRequest``; a task that is run again queues it once."""
    job_id: str = self.request.id
    with suppress(DuplicateJobError):
        client().enqueue(parse_request(fields), job_options={"job_id": job_id, "unique": True})
    return job_id


@app.task(bind=True, max_retries=None, throws=(JobFailedError,))
def fetch(self: Task, job_id: str) -> str:
    """Store the audio of a job when it has ended."""
    try:
        speech = client().result(job_id, timeout=0)
    except TimeoutError as error:
        raise self.retry(exc=error, countdown=AGAIN_SECONDS) from None
    path = FOLDER / f"{job_id}.{speech.result.format}"
    path.write_bytes(speech.audio)
    return str(path)


def speak(fields: dict[str, Any]) -> AsyncResult:
    return chain(submit.s(fields), fetch.s()).apply_async()
