"""Puts a gateway together: what it answers, and on which paths."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

from redis.exceptions import NoPermissionError, RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp

from gateway import errors, wyoming
from gateway.auth import Door
from gateway.batches import add_batch, batch, batch_files, cancel_batch
from gateway.context import Context
from gateway.keys import KeyFile
from gateway.ledger import Entered, Ledger
from gateway.limits import Turns
from gateway.metrics import STREAM, Metrics, shown
from gateway.models import model, models
from gateway.openapi import openapi
from gateway.page import page
from gateway.pulse import Pulse
from gateway.settings import Settings
from gateway.socket import speech_stream
from gateway.speech import Speech
from gateway.status import healthz, readyz, status
from gateway.voices import add_voice, audio_voices, remove_voice, voices
from rwkv_tts import AsyncTTSClient, TTSClient
from rwkv_tts.audio_store import StoreError
from rwkv_tts.batches import BatchStore

PAGE = ("/", "/page/{file}")
ROUTES = [
    *(Route(path, page) for path in PAGE),
    Route("/v1/audio/speech", Speech(), methods=["POST"]),
    Route("/v1/models/{model}", model),
    *(Route(path, models) for path in ("/v1/models", "/v1/audio/models", "/audio/models")),
    *(Route(path, audio_voices) for path in ("/v1/audio/voices", "/audio/voices")),
    Route("/v1/voices", voices),
    Route("/v1/voices", add_voice, methods=["POST"]),
    Route("/v1/voices/{voice}", remove_voice, methods=["DELETE"]),
    Route("/v1/batches", add_batch, methods=["POST"]),
    Route("/v1/batches/{batch}", batch),
    Route("/v1/batches/{batch}", cancel_batch, methods=["DELETE"]),
    Route("/v1/batches/{batch}/files", batch_files),
    Route("/v1/status", status),
    Route("/openapi.json", openapi),
    Route("/healthz", healthz),
    Route("/readyz", readyz),
]

SOCKETS = [WebSocketRoute(STREAM, speech_stream)]


def make_app(settings: Settings) -> ASGIApp:
    """The application of a gateway.

    Raises:
        ValueError: Its settings cannot be used.
    """
    door = Door(KeyFile(settings.keys) if settings.keys else None, settings.cors_origins)
    url, metrics = settings.redis_url(), Metrics()
    ledger = Ledger(metrics)
    events = wyoming.listen(settings.wyoming) if settings.wyoming else None

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        plain = TTSClient(url, settings.queue, results=settings.results)
        async with AsyncTTSClient(url, settings.queue, results=settings.results) as client:
            with shown(metrics, settings), closing(plain.connection), closing(ledger):
                batches = BatchStore(plain, settings.batch_ttl)
                turns, pulse = Turns(settings.max_concurrent), Pulse(client)
                app.state.context = context = Context(settings, client, door, turns, pulse, batches, ledger)
                async with wyoming.served(events, context):
                    yield

    handlers: dict[Any, Any] = {
        errors.ApiError: errors.of_api,
        Exception: errors.of_anything,
        HTTPException: errors.of_http,
        NoPermissionError: errors.of_rights,
        RedisError: errors.of_redis,
        StoreError: errors.of_store,
    }
    middleware = _middleware(settings)
    app = Starlette(
        routes=[*ROUTES, *SOCKETS], middleware=middleware, exception_handlers=handlers, lifespan=lifespan
    )
    return Entered(app, ledger)


def _middleware(settings: Settings) -> list[Middleware]:
    cors = Middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=["authorization", "content-type"],
        expose_headers=["x-request-id"],
    )
    return [cors] if settings.cors_origins else []
