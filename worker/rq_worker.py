"""A worker for RQ's own commands: ``rq worker --worker-class worker.rq_worker.RQWorker``, pools, django-rq."""

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, cast

from loguru import logger
from redis import Redis
from rq.defaults import DEFAULT_RESULT_TTL
from rq.queue import Queue
from rq.utils import ensure_job_list, get_connection_from_queues
from rq.worker import BaseWorker

from worker.broker.batch_worker import BatchWorker, ExitCode
from worker.broker.connection import impatient
from worker.ops import logs
from worker.ops.health import Health
from worker.ops.journal import Journal
from worker.ops.metrics import Metrics
from worker.ops.tracing import open_tracing
from worker.settings import Settings, unknown_variables


class RQWorker(BatchWorker):
    """``BatchWorker`` with the constructor of RQ's workers; ``RWKV_TTS_...`` variables set the rest.

    Args:
        queues: Those to serve, by priority.
        name: RQ's name of the worker; that of the environment, or a random one, when None.
        default_result_ttl: Seconds that results are kept; RQ's own default stands for the environment's.
        connection: Redis; that of the queues when None.
        exception_handlers: What is told of failures.
        disable_default_exception_handler: Must be false: a failed job has to be somewhere.
        options: RQ's others. They change nothing here: jobs are JSON whatever the serializer and the classes of
            jobs and queues, and leases take the place of times to live and of monitoring.

    Raises:
        TypeError: RQ has no such option.
        ValueError: A setting of the environment, or an argument, is not accepted.
        StoreError: The store of the results cannot be used.
        ModelError: The model cannot be loaded.
    """

    def __init__(
        self,
        queues: str | Queue | Sequence[str | Queue],
        name: str | None = None,
        default_result_ttl: int = DEFAULT_RESULT_TTL,
        connection: Redis | None = None,
        exception_handlers: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
        *,
        disable_default_exception_handler: bool = False,
        **options: Any,
    ) -> None:
        from worker.service import JOBS_PER_ROW, show_redis, speaking  # imports torch; who only looks needs none

        if unknown := options.keys() - signature(BaseWorker).parameters.keys():
            raise TypeError(f"{', '.join(sorted(unknown))}: RQ's workers have no such option")
        if disable_default_exception_handler:
            raise ValueError(
                "disable_default_exception_handler: accepted is false; a failed job has to be somewhere"
            )
        connection = connection or cast("Redis", get_connection_from_queues(queues))
        names = tuple(one if isinstance(one, str) else one.name for one in ensure_job_list(queues))
        given: dict[str, Any] = {"queue": names, "name": name, "result_ttl": default_result_ttl}
        absent = {"name": None, "result_ttl": DEFAULT_RESULT_TTL}
        self._settings = Settings(**{key: value for key, value in given.items() if value != absent.get(key, ())})
        logs.configure(self._settings.log_level, as_json=self._settings.log_format == "json", with_rq=False)
        for line in unknown_variables():
            logger.warning("{}", line)
        self._metrics, self._health = Metrics(), Health()
        show_redis(self._metrics, connection, self._settings)
        super().__init__(
            connection,
            speaking(self._settings, connection, self._metrics, self._health),
            self._settings,
            max_jobs=JOBS_PER_ROW * self._settings.max_rows,
            name=self._settings.name,
            observers=(self._metrics, Journal(), *open_tracing(self._metrics)),
        )
        for handler in ensure_job_list(exception_handlers or []):
            self.push_exc_handler(handler)  # type: ignore[no-untyped-call]

    def _set_connection(self, connection: Redis) -> Redis:
        return impatient(connection)

    def work(self, *args: Any, **options: Any) -> bool:
        """As RQ's; meanwhile tell how it goes, where a port is set for that.

        Raises:
            SystemExit: It did not end because its work was done; the code says why.
        """
        from worker.service import health_server

        with health_server(self._settings, self._metrics, self._health):
            self._health.worker = self
            worked = super().work(*args, **options)
        if self.exit_code is not ExitCode.DRAINED:
            raise SystemExit(self.exit_code)
        return worked
