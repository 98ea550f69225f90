"""A Redis server and a worker process for the length of one command."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from redis import Redis
from rq.worker import BaseWorker, Worker

from rwkv_tts import JobFailedError, Speech, StoreError, TTSClient
from rwkv_tts.connection import connect
from worker.cli.address import next_door
from worker.cli.embedded import embedded_redis
from worker.settings import PREFIX, Settings

_POLL_SECONDS = 0.05


class WorkerDiedError(RuntimeError):
    """The worker process ended before its jobs did."""


def shared_redis(settings: Settings) -> str | None:
    """The URL of the configured Redis, else of the server of a worker in this folder; None if there is neither."""
    return settings.redis_url() or next_door()


@contextmanager
def redis_server(settings: Settings, data: Path | None = None) -> Iterator[str]:
    """Yield the URL of the configured Redis, or run an embedded server."""
    configured = settings.redis_url()
    if configured is not None:
        connect(configured).ping()
        yield configured
        return
    with embedded_redis(data) as url:
        yield url


class LocalWorker:
    """A worker process that this command started.

    Args:
        settings: Its settings.
        url: Its Redis.
        options: More of its command line.
        listening: A socket on which it shows metrics and health.
        own_session: Whether the Ctrl-C of a terminal reaches this command alone.
        environment: What its environment has beside ours.
    """

    def __init__(
        self,
        settings: Settings,
        url: str,
        options: Sequence[str] = (),
        *,
        listening: socket.socket | None = None,
        own_session: bool = False,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._url = url
        self._queue = settings.queue[0]
        overrides = settings.model_dump(exclude={"redis", "redis_password_file"}, exclude_none=True)
        chosen = [f"--{name.replace('_', '-')}={_option(value)}" for name, value in overrides.items()]
        files = [] if listening is None else [listening.fileno()]
        shown = [f"--metrics-socket={number}" for number in files]
        # -P: a folder "worker" where the command is run must not be taken for this one.
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-P", "-m", "worker.cli.child", "worker", "--quiet", *chosen, *options, *shown],
            env={
                **os.environ,
                **environment,
                f"{PREFIX}REDIS": url,
            },  # not an argument: those are public on the machine
            stdin=subprocess.PIPE,  # its end is ours
            pass_fds=files,
            start_new_session=own_session,
        )

    def check(self) -> None:
        """Raise WorkerDiedError when the process has ended."""
        if self.exit_code is not None:
            raise WorkerDiedError(f"the worker process ended with exit code {self.exit_code}")

    def wait_until_ready(self) -> None:
        """Return when the worker has loaded its model and listens."""
        connection = connect(self._url)
        while not workers_on(connection, self._queue):
            self.check()
            time.sleep(_POLL_SECONDS)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def send(self, signal_number: int) -> None:
        """Send the process a signal."""
        self._process.send_signal(signal_number)

    def wait(self) -> int:
        """The exit code, when the process has ended."""
        return self._process.wait()

    def stop(self) -> None:
        """End the process; what is running is finished first."""
        if self.exit_code is None:
            self.send(signal.SIGTERM)
        with self._process:  # closes the pipe
            self.wait()


def _option(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


@contextmanager
def local_worker(settings: Settings, url: str) -> Iterator[LocalWorker]:
    """Start a worker process, which is not ready yet, and stop it at the end."""
    worker = LocalWorker(settings, url)
    try:
        yield worker
    finally:
        worker.stop()


def workers_on(connection: Redis, queue: str) -> list[BaseWorker]:
    """The live workers that listen on a queue."""
    return [worker for worker in Worker.all(connection=connection) if queue in worker.queue_names()]


def outcome(client: TTSClient, job_id: str, worker: LocalWorker | None) -> Speech | JobFailedError | StoreError:
    """As ``wait``, with the reason why there is no speech as a value; nothing of the speech is kept."""
    try:
        return wait(client, job_id, worker, keep=False)
    except (JobFailedError, StoreError) as error:
        return error


def wait(
    client: TTSClient,
    job_id: str,
    worker: LocalWorker | None,
    *,
    keep: bool,
    idle: Callable[[], object] = lambda: None,
) -> Speech:
    """The finished speech, which Redis may go on to keep or not; meanwhile ``idle`` is called each second.

    Raises:
        JobFailedError: There is none; the message is the reason.
        StoreError: The audio lies in a store that is away, or is another one.
        WorkerDiedError: The worker that this command started is gone.
    """
    while True:
        try:
            return client.result(job_id, timeout=1, keep=keep)
        except TimeoutError:
            idle()
            if worker is not None:
                worker.check()
