"""What a worker reads for Prometheus when it is asked: the engine's numbers, the queues, the device."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue

from batching.stats import STEP_SECONDS
from rwkv_tts.load import QueueLoad, busyness
from sampler.decoding import Phase
from worker.broker.memory import MemoryUse
from worker.broker.tolerance import is_malformed
from worker.compute.contract import RowEngine
from worker.delivery.sweep import Sweeper
from worker.delivery.uploads import Uploads
from worker.ops.metrics import PREFIX

_BATCH_ROWS = tuple(2**i for i in range(13))


class EngineReadings(Collector):
    """The steps of an engine.

    Args:
        engine: What does them.
    """

    def __init__(self, engine: RowEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        stats, phases = self._engine.stats, self._engine.phases()
        yield _labelled(
            GaugeMetricFamily(PREFIX + "rows", "Rows that run, by what they do next.", labels=["phase"]),
            {phase.name.lower(): phases[phase] for phase in Phase},
        )
        yield GaugeMetricFamily(PREFIX + "rows_limit", "Rows that may run at once.", self._engine.max_rows)
        yield _batch_rows(stats.sizes)
        yield HistogramMetricFamily(
            PREFIX + "step_seconds",
            "Duration of a step of the engine, one forward pass over all rows.",
            _cumulative(STEP_SECONDS, stats.durations),
            stats.busy_seconds,
        )
        yield CounterMetricFamily(PREFIX + "engine_busy_seconds", "Time inside steps.", stats.busy_seconds)
        yield CounterMetricFamily(PREFIX + "engine_idle_seconds", "Time without any row.", stats.idle_seconds)
        yield CounterMetricFamily(
            PREFIX + "sampling_seconds",
            "Of the time inside steps: logits, masks and draws. On a GPU with the wait for the forward pass.",
            stats.sampling_seconds,
        )
        yield _labelled(
            CounterMetricFamily(
                PREFIX + "tokens", "Prompt tokens that were fed, and tokens that were drawn.", labels=["phase"]
            ),
            {phase.name.lower(): stats.tokens[phase] for phase in Phase},
        )


class StageReadings(Collector):
    """The stages around the engine.

    Args:
        busy_seconds: Tells what each of them has worked.
        streams: Tells how many streams are inside.
    """

    def __init__(self, busy_seconds: Callable[[], Mapping[str, float]], streams: Callable[[], int]) -> None:
        self._busy_seconds, self._streams = busy_seconds, streams

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(PREFIX + "streams", "Jobs that run and are heard meanwhile.", self._streams())
        yield _labelled(
            CounterMetricFamily(
                PREFIX + "stage_busy_seconds", "Time in which a stage beside the engine worked.", labels=["stage"]
            ),
            self._busy_seconds(),
        )


class StoreReadings(Collector):
    """The store of the results.

    Args:
        uploads: What goes there.
        sweeper: What is removed from there.
    """

    def __init__(self, uploads: Uploads, sweeper: Sweeper) -> None:
        self._uploads, self._sweeper = uploads, sweeper

    def collect(self) -> Iterator[Metric]:
        up = self._uploads.trouble is None
        yield GaugeMetricFamily(PREFIX + "store_up", "Whether the store of the results takes audio.", up)
        yield GaugeMetricFamily(
            PREFIX + "store_waiting", "Results whose audio is not stored yet.", self._uploads.waiting
        )
        yield CounterMetricFamily(
            PREFIX + "store_failures",
            "Tries to store audio that failed; each is tried again.",
            self._uploads.failures,
        )
        yield CounterMetricFamily(
            PREFIX + "store_swept", "Objects removed that no result names.", self._sweeper.removed
        )


class QueueReadings(Collector):
    """How much work waits, asked from Redis; of a Redis that is away only that it is.

    Args:
        connection: Redis; its timeouts bound how long a scrape takes.
        names: The queues.
    """

    def __init__(self, connection: Redis, names: Sequence[str]) -> None:
        self._queues = [Queue(name, connection=connection) for name in names]

    def collect(self) -> Iterator[Metric]:
        loads = self._ask()
        yield GaugeMetricFamily(PREFIX + "redis_up", "Whether Redis answers.", loads is not None)
        if loads is None:
            return
        depth = GaugeMetricFamily(PREFIX + "queue_depth", "Jobs that wait, for all workers.", labels=["queue"])
        yield _labelled(depth, {name: load.depth for name, load in loads.items()})
        wait = GaugeMetricFamily(
            PREFIX + "queue_wait_seconds",
            "Estimated time until a job that is queued now starts; absent while nobody can tell.",
            labels=["queue"],
        )
        waits = {name: load.estimated_wait for name, load in loads.items()}
        yield _labelled(wait, {name: seconds for name, seconds in waits.items() if seconds is not None})

    def _ask(self) -> dict[str, QueueLoad] | None:
        """The queues that can be read; None when Redis does not answer."""
        loads = {}
        for queue in self._queues:
            try:
                loads[queue.name] = busyness(queue).queue
            except Exception as error:  # noqa: BLE001 - a scrape always answers
                if not is_malformed(error):
                    return None
        return loads


class MemoryReadings(Collector):
    """The memory of Redis; nothing where it may not be asked for, and of a Redis that is away.

    Args:
        connection: Redis; its timeouts bound how long a scrape takes.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def collect(self) -> Iterator[Metric]:
        try:
            use = MemoryUse.of(self._connection.info("memory"))
        except RedisError:  # `rwkv_tts_redis_up` and the worker's log tell
            return
        yield GaugeMetricFamily(
            PREFIX + "redis_memory_bytes", "Memory of Redis that counts against its limit.", use.used
        )
        yield GaugeMetricFamily(
            PREFIX + "redis_memory_limit_bytes", "Redis' maxmemory; 0 without a limit.", use.limit
        )


class DeviceReadings(Collector):
    """The memory of a CUDA device as torch's allocator sees it; nothing for other devices.

    Args:
        engine: What runs there.
    """

    def __init__(self, engine: RowEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        held = self._engine.memory()
        if not held:
            return
        yield _labelled(
            GaugeMetricFamily(PREFIX + "device_memory_bytes", "Memory on the device.", labels=["kind"]),
            {kind: held[kind] for kind in ("allocated", "reserved")},
        )
        yield CounterMetricFamily(
            PREFIX + "device_allocations", "Blocks of memory asked from torch.", held["allocations"]
        )


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _cumulative(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Prometheus's buckets from counts of disjoint classes, of which the last is without bound."""
    return list(zip([*(str(float(bound)) for bound in bounds), "+Inf"], accumulate(counts), strict=True))


def _batch_rows(sizes: Sequence[int]) -> Metric:
    """``sizes``: steps by their number of rows."""
    bounds = [rows for rows in _BATCH_ROWS if rows < len(sizes)]
    edges = [0, *(rows + 1 for rows in bounds), len(sizes)]
    classes = [sum(sizes[low:high]) for low, high in pairwise(edges)]
    return HistogramMetricFamily(
        PREFIX + "batch_rows",
        "Rows in a step of the engine.",
        _cumulative(bounds, classes),
        sum(rows * steps for rows, steps in enumerate(sizes)),
    )
