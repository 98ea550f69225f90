"""How the workers of a chaos run put audio into a store: as the product does, and sweep it without patience."""

from rwkv_tts.audio_store import AudioStore
from worker.broker.connection import worker_connection
from worker.delivery.sweep import Sweeper
from worker.delivery.uploads import Uploads, wait_for_store

RESULT_TTL = 24 * 3600
START_SECONDS = 60.0
ORPHAN_SECONDS = 0.5
SWEEP_SECONDS = 1.0


def open_store(results: str, url: str) -> Uploads:
    """The way to the store at ``results``, which the worker of the Redis at ``url`` sweeps in turn with others."""
    store = AudioStore(results)
    wait_for_store(store, START_SECONDS)
    Sweeper(store, worker_connection(url), RESULT_TTL, ORPHAN_SECONDS, SWEEP_SECONDS).start()
    return Uploads(store)
