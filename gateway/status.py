"""How the gateway and the workers behind it do."""

from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.context import context_of
from rwkv_tts import Busyness


async def status(request: Request) -> JSONResponse:
    """How many wait, and what each worker does; by number, because names tell of the inside."""
    context = context_of(request)
    context.door.admit(request)
    return JSONResponse(_told(await context.pulse.busyness()), headers={"cache-control": "no-store"})


async def healthz(_: Request) -> JSONResponse:
    """That it lives."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> JSONResponse:
    """That it can have something spoken: Redis answers, and a worker listens."""
    await context_of(request).pulse.check_workers()
    return JSONResponse({"status": "ok"})


def _told(busyness: Busyness) -> dict[str, Any]:
    queue, workers = busyness
    shown = ("rows", "most_rows", "running", "mean_batch", "audio_seconds_per_second", "jobs_per_second")
    return {
        "queue": {**asdict(queue), "estimated_wait": queue.estimated_wait},
        "workers": [worker.model_dump(mode="json", include=set(shown)) for worker in workers],
        "rows": sum(worker.rows or 0 for worker in workers),
        "max_rows": sum(worker.most_rows or 0 for worker in workers),
    }
