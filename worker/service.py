"""Puts a worker together: model, pipeline, queue."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from prometheus_client.registry import Collector
from redis import Redis

from rwkv_tts.audio_store import REDIS, AudioStore, StoreError
from worker.backend import SpeechBackend, WarmUpError, load_speech
from worker.broker.backend import Ended, Made, MakeBackend
from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.callbacks import CallbackError
from worker.broker.connection import ClusterError, wait_for_redis, worker_connection
from worker.broker.lease import NameTakenError
from worker.broker.observer import Observer
from worker.broker.rights import MissingCommandError, check_rights
from worker.delivery.sweep import Sweeper
from worker.delivery.uploads import Uploads, wait_for_store
from worker.ops.health import AddressError, Health, HealthServer
from worker.ops.journal import Journal
from worker.ops.metrics import Metrics
from worker.ops.readings import (
    DeviceReadings,
    EngineReadings,
    MemoryReadings,
    QueueReadings,
    StageReadings,
    StoreReadings,
)
from worker.ops.tracing import traced
from worker.settings import Settings
from worker.speech.config import ModelError

JOBS_PER_ROW = 2
"""While the audio of one job is made, its row already decodes the next."""

_SCRAPE_SECONDS = 1.0


class UnusableError(RuntimeError):
    """A worker cannot start as it is set up.

    Attributes:
        what: What is wrong: settings, store, model, warm-up or redis.
        reason: One line.
    """

    def __init__(self, what: str, reason: object) -> None:
        super().__init__(f"{what}: {reason}")
        self.what, self.reason = what, str(reason)


def run_worker(
    settings: Settings, url: str, *, burst: bool, profile_steps: int = 0, listening: int | None = None
) -> ExitCode:
    """Load the model, speak a word, and drain the queues; meanwhile tell how it goes, where a port is set.

    With ``profile_steps`` a trace of so many steps is written. ``listening`` is the number of a socket to tell on.

    Raises:
        UnusableError: It cannot start.
    """
    metrics, health = Metrics(), Health()
    with health_server(settings, metrics, health, listening), traced(metrics) as tracing:
        try:
            worker = _make_worker(settings, url, metrics, health, profile_steps, tracing)
            health.worker = worker
            worker.work(burst=burst, logging_level=None, dequeue_strategy=settings.dequeue_strategy)
        except StoreError as error:
            raise UnusableError("store", error) from error
        except ModelError as error:
            raise UnusableError("model", error) from error
        except WarmUpError as error:
            raise UnusableError("warm-up", error) from error
        except (CallbackError, NameTakenError) as error:
            raise UnusableError("settings", error) from error
        except (ClusterError, MissingCommandError) as error:
            raise UnusableError("redis", error) from error
    return worker.exit_code


def _make_worker(
    settings: Settings,
    url: str,
    metrics: Metrics,
    health: Health,
    profile_steps: int,
    tracing: Iterable[Observer],
) -> BatchWorker:
    connection = worker_connection(url)
    make_backend = speaking(settings, connection, metrics, health, profile_steps)
    wait_for_redis(connection, settings.outage_timeout)  # it may have gone while the model was loaded
    check_rights(connection, settings.commit_replicas)
    show_redis(metrics, worker_connection(url, _SCRAPE_SECONDS), settings)
    return BatchWorker(
        connection,
        make_backend,
        settings,
        max_jobs=JOBS_PER_ROW * settings.max_rows,
        name=settings.name,
        observers=(metrics, Journal(), *tracing),
    )


def show_redis(metrics: Metrics, connection: Redis, settings: Settings) -> None:
    """Let metrics tell of the queues and of memory; the connection's timeouts bound how long that takes."""
    metrics.registry.register(QueueReadings(connection, settings.queue))
    metrics.registry.register(MemoryReadings(connection))


def speaking(
    settings: Settings, connection: Redis, metrics: Metrics, health: Health, profile_steps: int = 0
) -> MakeBackend:
    """Load the model; what is returned makes it speak.

    Raises:
        StoreError: The store of the results refuses, or is away for too long.
        ModelError: The model cannot be loaded.
    """
    metrics.show_ready(lambda: health.obstacle() is None)
    sweeper = None if settings.results == REDIS else _open_store(settings, connection, health)
    speech = load_speech(settings, connection)
    metrics.show_engine(speech.compute.description)
    shown: list[Collector] = []

    def make_backend(post: Callable[[Ended | Made], None], freed: Callable[[], None]) -> SpeechBackend:
        health.starting = "the model is warming up"
        uploads = None if sweeper is None else Uploads(sweeper.store)
        backend = SpeechBackend(speech, settings, post, freed, metrics.spoken, uploads)
        backend.warm_up()
        if profile_steps:
            path = Path(f"profile-{os.getpid()}.json").absolute()
            backend.pipeline.profile(profile_steps, path)
        while shown:  # of an earlier one, whose work is over
            metrics.registry.unregister(shown.pop())
        shown.append(EngineReadings(backend.pipeline.engine))
        shown.append(DeviceReadings(backend.pipeline.engine))
        shown.append(StageReadings(backend.pipeline.busy_seconds, backend.pipeline.streams))
        if uploads is not None and sweeper is not None:
            health.store_trouble = lambda: uploads.trouble
            shown.append(StoreReadings(uploads, sweeper))
        for reading in shown:
            metrics.registry.register(reading)
        return backend

    return make_backend


def _open_store(settings: Settings, connection: Redis, health: Health) -> Sweeper:
    """What looks after the store of the results, once that takes audio."""
    store, loading = AudioStore(settings.results), health.starting
    health.starting = "the store of the results is away"
    wait_for_store(store, settings.outage_timeout)
    health.starting = loading
    sweeper = Sweeper(store, connection, settings.result_ttl)
    sweeper.start()
    return sweeper


def health_server(
    settings: Settings, metrics: Metrics, health: Health, listening: int | None = None
) -> AbstractContextManager[object]:
    """Shows metrics and health for the length of a block, if there is a port, or a socket, for them."""
    if settings.metrics_port is None and listening is None:
        return nullcontext()
    try:
        port = settings.metrics_port or 0
        return HealthServer(settings.metrics_host, port, metrics.registry, health, listening)
    except AddressError as error:
        raise UnusableError("settings", error) from error
