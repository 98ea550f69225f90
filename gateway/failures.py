"""What a job that has failed is in terms of HTTP."""

import logging

from gateway.errors import LATE, SERVER, ApiError
from gateway.orders import refused
from rwkv_tts import Cause, JobFailedError

logger = logging.getLogger("gateway")

_CANCELLED = ApiError(503, "the request was cancelled by the operator; try again", SERVER, code="cancelled")
_LOST = ApiError(500, "the speech could not be made; try again, or tell the operator", SERVER, code="internal")


def failed(error: JobFailedError) -> ApiError:
    """The error for a job that has failed: the worker's line on request and model, nothing of the inside."""
    refusal = error.refusal
    if refusal is not None and refusal.cause is Cause.INVALID:
        return refused(refusal.field, str(refusal))
    logger.warning("a job failed: %s", error)
    if refusal is not None and refusal.cause is Cause.MODEL:
        return ApiError(500, str(refusal), SERVER, code="model")
    known = {Cause.CANCELLED: _CANCELLED, Cause.TIMEOUT: LATE}
    return _LOST if refusal is None else known.get(refusal.cause, _LOST)
