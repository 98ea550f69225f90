"""How far the speech of a job has come: its worker shows that in the job's meta, about once a second."""

import json

from pydantic import BaseModel, ConfigDict
from redis import Redis
from rq.job import Job

from rwkv_tts.keys import PROGRESS_META


class SpeechProgress(BaseModel):
    """How far the speech of a job has come.

    Attributes:
        parts: Of its text, that are in the audio.
        of: All of them; None while the text has not been read to its end.
        share: Of the text's characters, that those parts are; 0 to 1.
        seconds: Of audio.
        rtf: Time since the worker took the job over the duration of that audio.
    """

    model_config = ConfigDict(frozen=True)

    parts: int
    of: int | None
    share: float
    seconds: float
    rtf: float


def fetch_progress(connection: Redis, job_id: str) -> SpeechProgress | None:
    """What is shown of a job, in one round trip; None where there is nothing."""
    meta = connection.hget(Job.key_for(job_id), "meta")
    try:
        return SpeechProgress.model_validate(json.loads(meta or "null")[PROGRESS_META])
    except (ValueError, TypeError, KeyError):  # there is none, or a producer has written its own
        return None
