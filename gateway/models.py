"""The one model that speaks, by its own name and by those that OpenAI's clients offer."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway.errors import ApiError

MODELS = ("rwkv-tts", "tts-1", "tts-1-hd", "gpt-4o-mini-tts")
"""A request may name any other as well: all are the one that the workers have."""


async def models(_: Request) -> JSONResponse:
    """All of them, as OpenAI lists them and, beside it, as Open WebUI reads them."""
    listed = [_told(name) for name in MODELS]
    return JSONResponse({"object": "list", "data": listed, "models": listed})


async def model(request: Request) -> JSONResponse:
    """One of them."""
    name = request.path_params["model"]
    if name not in MODELS:
        told = f"model: no {name[:80]!r}; accepted: {', '.join(MODELS)}"
        raise ApiError(404, told, param="model", code="model_not_found")
    return JSONResponse(_told(name))


def _told(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "rwkv-tts"}
