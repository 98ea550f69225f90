"""Errors as OpenAI words them, so that its clients raise the exceptions that their users know."""

import logging
import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

logger = logging.getLogger("gateway")

INVALID, SERVER = "invalid_request_error", "server_error"


@dataclass(eq=False)
class ApiError(Exception):
    """A request that is not answered with what it asked for.

    Attributes:
        status: Of HTTP.
        message: One line; nothing of the inside.
        kind: OpenAI's type of error.
        param: The field that is wrong, if one is.
        code: For programs.
        retry_after: Seconds after which another try makes sense.
        headers: More headers.
    """

    status: int
    message: str
    kind: str = INVALID
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """What OpenAI's clients read."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The answer."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_after)))
        return JSONResponse(self.body(), self.status, headers)


def bad_request(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """The error for what is wrong with a request."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, code: str, retry_after: float = 5) -> ApiError:
    """The error for what may work again soon."""
    return ApiError(503, message, SERVER, code=code, retry_after=retry_after)


LATE = ApiError(504, "it was not spoken in time", SERVER, code="timeout")
_AWAY = unavailable("the queue cannot be reached; try again", "queue_unavailable")
_FAULT = ApiError(
    500, "something went wrong; the operator finds it by the id of the request", SERVER, code="internal"
)


def told(error: Exception) -> ApiError:
    """The error to tell a client of which there is no answer but messages; nothing of the inside."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, TimeoutError):
        return LATE
    logger.error("message: %r", error)
    return _AWAY if isinstance(error, RedisError) else _FAULT


async def of_api(_: Request, error: Exception) -> JSONResponse:
    """Answer one of ours."""
    assert isinstance(error, ApiError)
    return error.response()


async def of_http(_: Request, error: Exception) -> JSONResponse:
    """Answer one of Starlette's: no such path, or no such method there."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase.lower()
    is_form = error.status_code == HTTPStatus.BAD_REQUEST  # that is none
    message = f"body: {error.detail}" if is_form else phrase
    code, headers = phrase.replace(" ", "_"), dict(error.headers or {})
    return ApiError(error.status_code, message, code=code, headers=headers).response()


async def of_anything(_: Request, __: Exception) -> JSONResponse:
    """Answer where we are at fault; what it is is for the log."""
    return _FAULT.response()


async def of_rights(_: Request, __: Exception) -> JSONResponse:
    """Answer where the gateway's own user of Redis lacks a right."""
    return ApiError(403, "this gateway may not do that", code="forbidden").response()


async def of_redis(_: Request, __: Exception) -> JSONResponse:
    """Answer where Redis is away or refuses; what it said is for the log."""
    return _AWAY.response()


async def of_store(_: Request, __: Exception) -> JSONResponse:
    """Answer where audio lies that cannot be fetched."""
    return unavailable("the audio cannot be fetched; try again", "store_unavailable").response()
