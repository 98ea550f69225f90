"""Tells another service of every job that has ended: ``python webhooks.py deliver``, beside whatever submits jobs.

A program that submits calls ``speak`` (or ``python webhooks.py speak TEXT``). It writes the job into an outbox
first, a file of SQLite; ``deliver`` waits for the jobs in it and POSTs what has become of each to one address,
signed, and again with growing pauses until a 2xx comes back. So neither a restart of this program nor of the other
service loses one; the other service may hear of a job twice, under the same ``webhook-id``. Signatures are those
of https://www.standardwebhooks.com.

REDIS_URL       where the queue is
WEBHOOK_URL     who is told
WEBHOOK_SECRET  what signatures are made with: base64, as of ``openssl rand -base64 24``
AUDIO_URL       where the audio of ``{job_id}`` is, such as django_app.py's http://127.0.0.1:8000/speech/{job_id};
                not needed where workers put it in a store: then RESULTS names that, and addresses are signed URLs
OUTBOX          the file, outbox.db unless it says so
"""

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener
from uuid import uuid4

from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError

from rwkv_tts import JobFailedError, QueueFullError, RequestError, StoreError, TTSClient

LOOK_SECONDS, FIRST_PAUSE, LONGEST_PAUSE = 0.5, 1.0, 3600.0
ANSWER_SECONDS = 10.0
TRIES = 20
SUBMIT_SECONDS = 60.0
"""After which a job that is not in Redis never will be: the program that was to submit it has died."""


class NoRedirect(HTTPRedirectHandler):
    """An answer that leads elsewhere is none: what is signed for one address goes to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


def outbox() -> sqlite3.Connection:
    box = sqlite3.connect(os.environ.get("OUTBOX", "outbox.db"), isolation_level=None, timeout=30)
    box.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, tries INTEGER DEFAULT 0, due REAL DEFAULT 0)"
    )
    return box


def connect() -> TTSClient:
    return TTSClient(os.environ["REDIS_URL"], results=os.environ.get("RESULTS", "redis"))


def speak(client: TTSClient, text: str, **fields: Any) -> str:
    """Submit a text of whose end the other service is told; the job's id."""
    job_id, box = str(uuid4()), outbox()
    box.execute("INSERT INTO jobs (id, due) VALUES (?, ?)", (job_id, time.time() + SUBMIT_SECONDS))
    try:
        client.submit(text, job_options={"job_id": job_id}, **fields)
    except (RequestError, QueueFullError):
        box.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        raise
    box.execute("UPDATE jobs SET due = 0 WHERE id = ?", (job_id,))
    return job_id


def event(client: TTSClient, job_id: str) -> dict[str, Any] | None:
    """What is to be told of a job; None while it has not ended."""
    try:
        speech = client.result(job_id, timeout=0)
    except TimeoutError:
        return None
    except (JobFailedError, NoSuchJobError) as error:
        return {"type": "speech.failed", "data": {"job_id": job_id, "error": str(error)}}
    told = speech.result.model_dump(mode="json", include={"format", "seconds", "sample_rate"})
    stored = speech.result.address is not None
    url = client.audio_url(job_id) if stored else os.environ["AUDIO_URL"].format(job_id=job_id)
    return {"type": "speech.finished", "data": {"job_id": job_id, "audio_url": url, **told}}


def sign(identity: str, moment: int, body: bytes) -> str:
    key = base64.b64decode(os.environ["WEBHOOK_SECRET"])
    signature = hmac.digest(key, f"{identity}.{moment}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signature).decode()}"


def post(identity: str, told: dict[str, Any]) -> str:
    """Empty when the other service has it; else what went wrong."""
    moment, body = int(time.time()), json.dumps(told).encode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": identity,
        "webhook-timestamp": str(moment),
        "webhook-signature": sign(identity, moment, body),
    }
    request = Request(os.environ["WEBHOOK_URL"], body, headers, method="POST")  # noqa: S310 - the operator's
    try:
        with build_opener(NoRedirect).open(request, timeout=ANSWER_SECONDS):
            return ""
    except HTTPError as error:
        return f"answered {error.code}"
    except OSError as error:
        return str(error)


def deliver_one(client: TTSClient, box: sqlite3.Connection, job_id: str, tries: int) -> None:
    told = event(client, job_id)
    if told is None:
        return
    problem = post(job_id, told)
    if not problem or tries + 1 == TRIES:
        box.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
    else:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries)
        box.execute("UPDATE jobs SET tries = tries + 1, due = ? WHERE id = ?", (time.time() + pause, job_id))
    print(job_id, problem or "told", flush=True)  # noqa: T201


def deliver() -> None:
    client, box = connect(), outbox()
    while True:
        due = box.execute("SELECT id, tries FROM jobs WHERE due <= ? ORDER BY due", (time.time(),)).fetchall()
        try:
            for job_id, tries in due:
                deliver_one(client, box, job_id, tries)
        except (RedisError, StoreError) as error:
            print(error, flush=True)  # noqa: T201
        time.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    if sys.argv[1:2] == ["speak"]:
        print(speak(connect(), " ".join(sys.argv[2:])))  # noqa: T201
    else:
        deliver()
