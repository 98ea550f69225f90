"""Audio on its way to a store outside Redis: in threads of its own, again and again until it is there."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from loguru import logger

from rwkv_tts.audio_store import AudioStore, StoreError

_THREADS = 8
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 2.0
_SILENCE_SECONDS = 5.0
"""Between two lines of the log about a store that is away."""

_CLOSING_SECONDS = 1.0
STALLED_SECONDS = 10.0
"""Without anything stored while something waits: a store that is as slow as this counts as away."""


@dataclass(frozen=True)
class Upload:
    """Audio to store, and whom to call, from any thread, when that is over."""

    job_id: str
    name: str
    content: bytes
    done: Callable[[], None]
    given_up: threading.Event = field(default_factory=threading.Event)


class Uploads:
    """Stores audio; a store that is away keeps it waiting in memory, and nothing is lost.

    Args:
        store: Where it goes.

    Attributes:
        store: The store.
        trouble: Why nothing more should be made for the store at present; None while it takes audio.
        failures: Tries that failed, and times that it kept silent for too long.
    """

    def __init__(self, store: AudioStore) -> None:
        self.store = store
        self.trouble: str | None = None
        self.failures = 0
        self._stored_at = 0.0
        self._closed = threading.Event()
        self._inbox: queue.SimpleQueue[Upload | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._waiting: dict[str, Upload] = {}
        self._may_speak_at = 0.0
        self._threads = [threading.Thread(target=self._run, name="upload", daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Results that are not stored yet."""
        return len(self._waiting)

    def put(self, upload: Upload) -> None:
        """Have audio stored."""
        if not self._waiting:
            self._stored_at = time.monotonic()
        self._waiting[upload.name] = upload
        self._inbox.put(upload)

    def look(self) -> None:
        """Find out whether the store keeps silent; to be called now and then."""
        silent = time.monotonic() - self._stored_at
        if self.trouble is None and self._waiting and silent > STALLED_SECONDS:
            self._met(f"results: {self.store.url}: has taken nothing for {STALLED_SECONDS:g} s")

    def cancel(self, job_id: str) -> None:
        """Wait no longer for the store with this job's audio; unknown ids are ignored."""
        for upload in list(self._waiting.values()):
            if upload.job_id == job_id:
                upload.given_up.set()
                self._leave(upload)

    def close(self) -> None:
        """End the threads, after what waits; one that hears nothing from the store is left behind."""
        self._closed.set()
        for _ in self._threads:
            self._inbox.put(None)
        for thread in self._threads:
            thread.join(None if self._waiting else _CLOSING_SECONDS)

    def _leave(self, upload: Upload) -> None:
        if self._waiting.pop(upload.name, None) is not None:
            upload.done()

    def _run(self) -> None:
        while (upload := self._inbox.get()) is not None:
            self._deliver(upload)
            self._leave(upload)
            if self.trouble and not self._waiting:  # nobody else finds out when the store is back
                self._insist(self.store.check, self._closed)

    def _deliver(self, upload: Upload) -> None:
        self._insist(partial(self.store.put, upload.name, upload.content), upload.given_up)

    def _insist(self, ask: Callable[[], None], given_up: threading.Event) -> None:
        """Ask something of the store until it does it, or that is given up."""
        pause = _FIRST_PAUSE_SECONDS
        while not given_up.is_set():
            try:
                ask()
            except StoreError as error:
                self._met(str(error))
                given_up.wait(pause)
                pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
            else:
                self._over()
                return

    def _met(self, trouble: str) -> None:
        with self._lock:
            self.failures += 1
            speaks = self.trouble is None or time.monotonic() >= self._may_speak_at
            self.trouble = trouble
            if speaks:
                self._may_speak_at = time.monotonic() + _SILENCE_SECONDS
                logger.warning("{}; {} results wait", trouble, self.waiting)

    def _over(self) -> None:
        with self._lock:
            self._stored_at = time.monotonic()
            if self.trouble is not None:
                self.trouble = None
                logger.info("results: {}: takes audio again", self.store.url)


def wait_for_store(store: AudioStore, seconds: float) -> None:
    """Return when audio can be stored.

    Raises:
        StoreError: It refuses, or has not answered for ``seconds``.
    """
    deadline, pause = time.monotonic() + seconds, _FIRST_PAUSE_SECONDS
    while True:
        try:
            store.check()
        except StoreError as error:
            if error.permanent or time.monotonic() >= deadline:
                raise
            logger.warning("{}; again in {:.1f} s", error, pause)
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE_SECONDS, 2 * pause)
        else:
            return
