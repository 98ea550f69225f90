"""The function that a speech job names.

``BatchWorker`` never calls it: it recognises the name and batches. A stock RQ worker does call it and gets a
batch of one, with the settings of its environment.
"""

import queue
from functools import cache
from typing import Any, cast

from redis import Redis
from rq import get_current_job

from rwkv_tts.audio_store import REDIS, AudioStore, new_name
from rwkv_tts.keys import chunks_key
from rwkv_tts.refusal import invalid
from rwkv_tts.schema import parse_request
from worker.backend import finished, heard, load_speech
from worker.settings import Settings
from worker.speech.pipeline import Pipeline
from worker.speech.preparation import make_utterance
from worker.speech.utterance import Step, Utterance

_DAY_SECONDS = 24 * 3600


class SynthesisError(RuntimeError):
    """Speech could not be made; the message says why."""


@cache
def _store() -> AudioStore | None:
    results = Settings().results
    return None if results == REDIS else AudioStore(results)


@cache
def _pipeline(connection: Redis) -> tuple[Pipeline, "queue.SimpleQueue[Utterance]"]:
    settings = Settings()
    speech = load_speech(settings, connection)
    ended: queue.SimpleQueue[Utterance] = queue.SimpleQueue()

    def let_hear(step: Step) -> None:
        key = chunks_key(step.utterance.id)
        if step.audio:
            connection.xadd(key, cast("dict[Any, Any]", heard(step)), id=f"{step.entry.number}-0")
            connection.expire(key, _DAY_SECONDS)

    chunk = settings.token_chunk_size
    return Pipeline(speech, max_rows=1, token_chunk_size=chunk, done=ended.put, made=let_hear), ended


def synthesize(request: dict[str, Any]) -> dict[str, Any]:
    """Speak one request inside a running RQ job: store the audio, return the result.

    Raises:
        RequestError: The request is not accepted.
        SynthesisError: Speech could not be made.
        StoreError: The audio could not be stored.
    """
    job = get_current_job()
    if job is None:
        raise invalid("synthesize", "runs inside an RQ job only; producers enqueue it by name")
    parsed = parse_request(request)
    pipeline, ended = _pipeline(job.connection)
    job.connection.delete(chunks_key(job.id))  # of an earlier run
    pipeline.submit(make_utterance(pipeline.speech, job.id, parsed))
    utterance = ended.get()
    if utterance.refusal is not None:
        raise SynthesisError(str(utterance.refusal))
    store, address = _store(), None
    if store is not None and not parsed.stream:
        name = new_name(job.id, parsed.format)
        store.put(name, utterance.audio)
        address = store.address(name)
    done, result = finished(utterance, pipeline.speech, address)
    ttl = job.get_result_ttl(Settings().result_ttl)
    if ttl != 0:
        for key, content in done.attachments.items():
            job.connection.set(key, content, ex=ttl if ttl > 0 else None)
        if parsed.stream:
            job.connection.xadd(chunks_key(job.id), {"end": "finished"})
        if parsed.stream and ttl > 0:
            job.connection.expire(chunks_key(job.id), ttl)
    return result.model_dump(mode="json")
