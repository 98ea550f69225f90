"""Removes from a store of results what no result names: lost uploads, and audio that has outlived its result.

An object names the job that it was made for. While that job is ``started`` its audio may be on its way into a
result, and stays; otherwise whoever made it has committed its address or will never be able to. So the job's
status decides, and age only makes sure. Of a job that Redis does not know, nobody can say how long its result was
to live: its audio stays as long as results do by default.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any
from uuid import uuid4

from loguru import logger
from redis import Redis
from redis.exceptions import RedisError
from rq.job import Job, JobStatus
from rq.results import Result

from rwkv_tts.audio_store import AudioStore, Stored, StoreError
from rwkv_tts.keys import SWEEP_KEY
from rwkv_tts.pickles import EitherSerializer
from rwkv_tts.results import results_key

ORPHAN_SECONDS = 300.0
INTERVAL_SECONDS = 30.0
_PAGES = 10
_JOBS_AT_ONCE = 200


class Sweeper:
    """Looks at some thousand objects now and then, as the only one of all workers; from a thread.

    Args:
        store: The store; it belongs to one Redis.
        connection: That Redis, replies not decoded.
        result_ttl: Seconds that results are kept where a job does not say; -1 for ever.
        orphan_seconds: Age below which nothing is removed.
        interval: Seconds between two looks.

    Attributes:
        store: The store.
        removed: Objects that were removed.
    """

    def __init__(
        self,
        store: AudioStore,
        connection: Redis,
        result_ttl: int,
        orphan_seconds: float = ORPHAN_SECONDS,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self.store, self._connection = store, connection
        self._result_ttl, self._orphan_seconds, self._interval = result_ttl, orphan_seconds, interval
        self._token = uuid4().hex
        self._pages = store.pages()
        self.removed = 0

    def start(self) -> None:
        """Look again and again, as long as the process lives."""
        threading.Thread(target=self._run, name="sweep", daemon=True).start()

    def run(self) -> int:
        """Look at the next objects, unless another worker does; returns how many were removed.

        Raises:
            StoreError: The store is away.
            redis.exceptions.RedisError: Redis is.
        """
        if not self._leads():
            return 0
        orphans = []
        for page in self._next_pages():
            for i in range(0, len(page), _JOBS_AT_ONCE):
                orphans += self._orphans(page[i : i + _JOBS_AT_ONCE])
        self.store.delete([self.store.address(name) for name in orphans])
        removed = len(orphans) + self.store.remove_partial(self._orphan_seconds)
        self.removed += removed
        if removed:
            logger.info("results: {}: {} objects that no result names are removed", self.store.url, removed)
        return removed

    def _run(self) -> None:
        said = ""
        while True:
            time.sleep(self._interval)
            try:
                self.run()
                said = ""
            except (StoreError, RedisError) as error:
                if said != str(error):  # a store that lets us put but not delete would be told of for ever
                    said = str(error)
                    logger.warning("results: nothing is swept at present: {}", said)

    def _leads(self) -> bool:
        """Whether this worker sweeps; another takes over when it has not for some time."""
        seconds = max(1, round(3 * self._interval))
        if self._connection.set(SWEEP_KEY, self._token, nx=True, ex=seconds):
            return True
        if self._connection.get(SWEEP_KEY) != self._token.encode():
            return False
        self._connection.expire(SWEEP_KEY, seconds)
        return True

    def _next_pages(self) -> Iterator[list[Stored]]:
        """Go on where the last look ended; after the last object, or an error, begin anew."""
        for _ in range(_PAGES):
            page = next(self._pages, None)
            if page is None:
                self._pages = self.store.pages()
                return
            yield page

    def _orphans(self, page: Sequence[Stored]) -> list[str]:
        """The names of those that nothing needs."""
        with self._connection.pipeline(transaction=False) as pipeline:
            for stored in page:
                pipeline.hget(Job.key_for(stored.job_id), "status")  # before the result: see ``_needed``
                pipeline.xrevrange(results_key(stored.job_id), count=1)
            replies = pipeline.execute(raise_on_error=False)
        looks = zip(page, replies[::2], replies[1::2], strict=True)
        return [stored.name for stored, status, entries in looks if not self._needed(stored, status, entries)]

    def _needed(self, stored: Stored, status: Any, entries: Any) -> bool:
        """Whether an object must stay; ``status`` was read first, or a commit in between would not be seen."""
        age = time.time() - stored.modified.timestamp()
        if age < self._orphan_seconds or isinstance(status, Exception) or isinstance(entries, Exception):
            return True
        if status == JobStatus.STARTED.value.encode() or self._names(stored, entries):
            return True
        return status is None and (self._result_ttl < 0 or age < self._result_ttl)

    def _names(self, stored: Stored, entries: Sequence[tuple[bytes, Any]]) -> bool:
        """Whether a job's last result names the object; one that cannot be read may."""
        try:
            results = [
                Result.restore(stored.job_id, entry.decode(), payload, self._connection, EitherSerializer)
                for entry, payload in entries
            ]
        except Exception:  # noqa: BLE001 - whatever a producer has written there
            return True
        values = [result.return_value for result in results]
        return any(
            isinstance(value, dict) and value.get("address") == self.store.address(stored.name) for value in values
        )
