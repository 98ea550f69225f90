"""Speaks the lines of a file with asyncio, many at once: ``python asyncio_app.py LINES.txt FOLDER``; REDIS_URL
says where the queue is.

No thread waits for a job. Ctrl-C cancels what was not spoken yet; the exit code is 1 when a line has failed.
"""

import asyncio
import os
import sys
from pathlib import Path

from rwkv_tts import AsyncTTSClient, JobFailedError, QueueFullError, RequestError

AT_ONCE = 64
AGAIN_SECONDS = 1.0


async def submit(client: AsyncTTSClient, text: str) -> str:
    """Queue a text, when there is room."""
    while True:
        try:
            return await client.submit(text, format="opus")
        except QueueFullError:
            await asyncio.sleep(AGAIN_SECONDS)


async def speak(client: AsyncTTSClient, text: str, path: Path) -> None:
    job_id = await submit(client, text)
    try:
        speech = await client.result(job_id, timeout=None, keep=False)
    except asyncio.CancelledError:
        await client.cancel(job_id)
        raise
    path.write_bytes(speech.audio)


async def main(lines: list[str], folder: Path) -> int:
    """How many lines have failed."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(client: AsyncTTSClient, number: int, text: str) -> bool:
        async with at_once:
            try:
                await speak(client, text, folder / f"{number:04}.opus")
            except (RequestError, JobFailedError) as error:
                print(f"line {number}: {error}", file=sys.stderr)  # noqa: T201
                return False
        return True

    async with AsyncTTSClient(os.environ["REDIS_URL"]) as client:
        spoken = await asyncio.gather(*(one(client, number, text) for number, text in enumerate(lines, 1)))
    return spoken.count(False)


if __name__ == "__main__":
    texts = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    sys.exit(asyncio.run(main(texts, Path(sys.argv[2]))) > 0)
