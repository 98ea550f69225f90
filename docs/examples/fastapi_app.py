"""A web service that speaks, with FastAPI: ``uvicorn fastapi_app:app``; REDIS_URL says where the queue is.

curl -d '{"text": "Hello."}' -H 'Content-Type: application/json' http://127.0.0.1:8000/speech -o hello.wav
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import Response

from rwkv_tts import AsyncTTSClient, JobFailedError, QueueFullError, SynthesisRequest

PATIENCE_SECONDS = 60.0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncTTSClient(os.environ["REDIS_URL"]) as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/speech")
async def speech(asked: SynthesisRequest, request: Request) -> Response:
    """Answer with the audio of a request; FastAPI refuses what is not one."""
    client: AsyncTTSClient = request.app.state.client
    try:
        job_id = await client.enqueue(asked)
        done = await client.result(job_id, timeout=PATIENCE_SECONDS, keep=False)
    except QueueFullError as error:
        raise HTTPException(429, str(error)) from None
    except JobFailedError as error:
        raise HTTPException(502, str(error)) from None
    except TimeoutError as error:
        raise HTTPException(504, str(error)) from None
    return Response(done.audio, media_type=f"audio/{done.result.format}")
