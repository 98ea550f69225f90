"""``RQ_KEY_PREFIX=... python prefixed.py URL``: jobs of all kinds, a worker that does them, and the keys of both.

RQ reads its prefix once, so that a test needs a process for each. What is printed is a JSON object: how the jobs
have ended, and every key that there was, while they ran and afterwards.
"""

import json
import sys
import threading
from typing import Any

from redis import Redis
from rq import Callback, Repeat, Retry

import scripted
from rwkv_tts.client import TTSClient
from scripted import Script, ScriptedBackend
from waiting import until
from worker.broker.batch_worker import BatchWorker
from worker.broker.connection import ClusterError, worker_connection
from worker.broker.rules import Rules

TOLD = f"{scripted.__name__}.tell_success"


def status(client: TTSClient, job_id: str) -> str:
    job = client._queue.fetch_job(job_id)
    assert job is not None
    return job.get_status().value


def main(url: str) -> None:
    """Play the jobs."""
    connection, script = Redis.from_url(url), Script()
    client = TTSClient(url)
    worker = BatchWorker(
        worker_connection(url),
        lambda ended, freed: ScriptedBackend(script, ended, freed, rows=8),
        Rules(lease_timeout=1, callbacks=(TOLD,), max_queue=100),
        max_jobs=8,
    )
    worker.work(burst=True)
    thread = threading.Thread(target=worker.work, daemon=True)
    thread.start()
    held = client.submit("held", metadata={"held": True})
    kinds: dict[str, dict[str, Any]] = {
        "plain": {},
        "after": {"depends_on": held, "on_success": Callback(TOLD)},
        "again": {"retry": Retry(max=1), "repeat": Repeat(times=1)},
    }
    jobs = [client.submit(text, metadata={"fails": text == "again"}, job_options=kinds[text]) for text in kinds]
    bad = client.enqueue({"text": ""})
    until(lambda: client.load().workers == 1 and len(script.started) >= 4)
    keys = set(connection.scan_iter(count=1000))
    script.release.set()
    everything = [held, *jobs, bad]
    until(lambda: all(status(client, job) in ("finished", "failed") for job in everything))
    worker.request_stop()
    thread.join()
    keys |= set(connection.scan_iter(count=1000))
    ends = [status(client, job) for job in everything]
    print(json.dumps({"ends": ends, "keys": sorted(key.decode() for key in keys)}))  # noqa: T201


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except ClusterError as error:
        sys.exit(str(error))
