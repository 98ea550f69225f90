"""What a worker is told over Redis: RQ's commands, and changes of values on a channel of our own."""

import time
from collections.abc import Callable
from typing import Any

from loguru import logger
from redis import Redis
from redis.client import PubSub, PubSubWorkerThread
from redis.exceptions import RedisError
from rq.command import parse_payload
from rq.executions import Execution

from rwkv_tts.keys import tune_channel
from worker.broker.messages import Message, Stop, Tune
from worker.broker.rights import is_missing

_PAUSE_SECONDS = 2.0
_LONGEST_ID = 64
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


class Commands:
    """Hears commands, in a thread, and puts them into the worker's inbox.

    Everyone who may stop a job may publish to RQ's channel, so values have another.

    Args:
        worker_name: RQ's name of the worker.
        executions: RQ's list of the worker's executions.
        post: Puts a message into the inbox.
        shut_down: Asks the worker to stop.
    """

    def __init__(
        self,
        worker_name: str,
        executions: dict[str, Execution],
        post: Callable[[Message], None],
        shut_down: Callable[[], None],
    ) -> None:
        self._tune_channel = tune_channel(worker_name)
        self._executions = executions
        self._post, self._shut_down = post, shut_down

    def listen(self, connection: Redis, channel: str) -> tuple[PubSub, PubSubWorkerThread]:
        """Subscribe to RQ's ``channel`` and to our own; a thread hears them until it is stopped."""
        pubsub = connection.pubsub()
        pubsub.subscribe(**{channel: self.handle_command, self._tune_channel: self.handle_tuning})
        thread = pubsub.run_in_thread(sleep_time=60, daemon=True, exception_handler=_keep_listening)
        return pubsub, thread

    def handle_command(self, message: dict[Any, Any]) -> None:
        """Take a command from RQ's channel; ``stop-job`` and ``stop-execution`` may name any running job."""
        try:
            payload = parse_payload(message)
            command = payload["command"]
        except _UNREADABLE as error:
            logger.warning("command: not readable ({}); ignored", type(error).__name__)
            return
        if command == "stop-job":
            self._post(Stop(str(payload.get("job_id"))))
        elif command == "stop-execution":
            execution = self._executions.get(str(payload.get("execution_id")))
            self._post(Stop(execution.job_id if execution else ""))
        elif command == "shutdown":
            self._shut_down()
        elif command == "kill-horse":
            logger.warning("command kill-horse: ignored; this worker has no process for each job")
        else:
            logger.warning("command {!r}: unknown; ignored", str(command)[:80])

    def handle_tuning(self, message: dict[Any, Any]) -> None:
        """Take a change of values from the operator's channel."""
        try:
            payload = parse_payload(message)
            tune = Tune(str(payload["id"])[:_LONGEST_ID], dict(payload["change"]))
        except _UNREADABLE as error:
            logger.warning("tune: not readable ({}); ignored", type(error).__name__)
            return
        self._post(tune)


def _keep_listening(error: Exception, _pubsub: PubSub, thread: PubSubWorkerThread) -> None:
    """Keep listening through any trouble with Redis, unless it lets nobody listen."""
    if not isinstance(error, RedisError | OSError):
        raise error
    if is_missing(error):
        logger.warning("redis: {}; until its next start this worker hears no stop, shutdown or tune", error)
        thread.stop()
        return
    logger.warning("redis: commands: {}: {}; again in {} s", type(error).__name__, error, _PAUSE_SECONDS)
    time.sleep(_PAUSE_SECONDS)
