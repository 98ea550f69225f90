"""The voices that can be spoken with, and the one model that speaks."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.context import context_of

MODEL = "rwkv-tts"
_ACCEPTED_MODELS = (MODEL, "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""Any name is accepted; clients that offer a choice get these."""


async def models(_: Request) -> JSONResponse:
    """The models, as OpenAI lists them."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "rwkv-tts"} for name in _ACCEPTED_MODELS]
    return JSONResponse({"object": "list", "data": listed, "models": [{"id": name} for name in _ACCEPTED_MODELS]})


async def audio_voices(request: Request) -> JSONResponse:
    """The voices by id and name, as Open WebUI reads them."""
    context = context_of(request)
    kept = [{"id": voice.id, "name": voice.name} for voice in await context.client.voices.list()]
    aliases: list[dict[str, Any]] = [{"id": name, "name": name} for name in context.settings.aliases]
    return JSONResponse({"voices": kept + aliases})
