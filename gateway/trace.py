"""The trace that a request belongs to: its jobs carry it on in their metadata."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rwkv_tts import SynthesisRequest
from rwkv_tts.schema import MAX_METADATA_BYTES
from rwkv_tts.traceparent import TRACEPARENT

_TRACEPARENT: ContextVar[str | None] = ContextVar(TRACEPARENT, default=None)


@contextmanager
def carried(traceparent: str | None) -> Iterator[None]:
    """Have the jobs that are queued within the block, and in tasks that begin there, belong to a trace."""
    token = _TRACEPARENT.set(traceparent)
    try:
        yield
    finally:
        _TRACEPARENT.reset(token)


def metadata() -> dict[str, str]:
    """Of a job of ours."""
    traceparent = _TRACEPARENT.get()
    return {} if traceparent is None else {TRACEPARENT: traceparent}


def in_trace(request: SynthesisRequest) -> SynthesisRequest:
    """The request as it is queued; what its own metadata says stands, and must still fit."""
    carrier = metadata()
    told = carrier | request.metadata
    if not carrier or len(json.dumps(told)) > MAX_METADATA_BYTES:
        return request
    return request.model_copy(update={"metadata": told})
