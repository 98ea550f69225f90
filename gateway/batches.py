"""``/v1/batches``: many requests at once, as lines of JSON, and all their files in one ZIP.

Nothing of a batch is in this process: another copy of the gateway answers as well.
"""

import asyncio
import io
import json
import re
import time
import zipfile
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.connection import read_body, while_connected
from gateway.context import Context, context_of
from gateway.errors import ApiError, bad_request
from gateway.failures import failed
from gateway.orders import parse_order
from gateway.trace import in_trace
from rwkv_tts import JobFailedError, QueueFullError, SynthesisRequest, SynthesisResult
from rwkv_tts.batches import Batch, BatchError, BatchLine

MAX_LINES = 10_000
STATES = ("queued", "running", "finished", "failed", "cancelled", "missing")

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of a batch, and of a line, which becomes the name of a file."""

_AT_ONCE = 100
_TOLD = {"seconds", "seed", "sample_rate", "finish_reason", "parts", "warnings"}
_OUTPUT, _ERRORS = "output.jsonl", "errors.jsonl"

Line = tuple[str, SynthesisRequest]


async def add_batch(request: Request) -> JSONResponse:
    """Queue the lines of a batch that are not queued yet."""
    context = context_of(request)
    caller = context.door.admit(request)
    batch_id = _checked("id", request.query_params.get("id", str(uuid4())))
    body = await read_body(request, context.settings.max_body_bytes, context.settings.read_timeout)
    lines = await asyncio.to_thread(_lines, body, context.settings.aliases)
    with context.turns.of(caller):
        await context.pulse.check_workers()
        await while_connected(request.receive, _queue(context, batch_id, f"{caller.name}:{batch_id}", lines))
    return JSONResponse(await _told(request, batch_id), 201)


async def batch(request: Request) -> JSONResponse:
    """How far a batch has come."""
    return JSONResponse(await _told(request, request.path_params["batch"]))


async def cancel_batch(request: Request) -> JSONResponse:
    """Cancel what of a batch has not ended."""
    await _found(request)
    await asyncio.to_thread(context_of(request).batches.cancel, _name(request, request.path_params["batch"]))
    return JSONResponse(await _told(request, request.path_params["batch"]))


async def batch_files(request: Request) -> Response:
    """The files of a batch, as many as there are, in a ZIP that is written while it is sent."""
    found = await _found(request)
    name = request.path_params["batch"]
    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return StreamingResponse(_zipped(context_of(request), found), media_type="application/zip", headers=headers)


def _name(request: Request, batch_id: str) -> str:
    """Of a batch, in which nobody gets at those of others."""
    return f"{context_of(request).door.admit(request).name}:{batch_id}"


async def _found(request: Request, batch_id: str | None = None) -> Batch:
    name = _name(request, request.path_params["batch"] if batch_id is None else batch_id)
    try:
        return await asyncio.to_thread(context_of(request).batches.get, name)
    except BatchError as error:
        raise ApiError(404, str(error), param="batch", code="batch_not_found") from None


async def _told(request: Request, batch_id: str) -> dict[str, Any]:
    found = await _found(request, batch_id)
    counts, seconds = found.counts, time.time() - found.begun
    waiting = counts["queued"] + counts["running"]
    ended = len(found.lines) - waiting - counts["missing"]
    return {
        "id": batch_id,
        "object": "batch",
        "status": "cancelled" if found.cancelled else "in_progress" if waiting else "completed",
        "created_at": round(found.begun),
        "counts": {"total": len(found.lines), **{state: counts[state] for state in STATES}},
        "seconds": round(seconds, 3),
        "estimated_seconds": round(seconds * waiting / ended, 1) if ended else None,
    }


async def _queue(context: Context, batch_id: str, name: str, lines: list[Line]) -> None:
    """Queue lines, some at a time, so that others have their turn."""
    try:
        await asyncio.to_thread(context.batches.begin, name, lines)
    except BatchError as error:
        raise bad_request(f"custom_id: {error}", "custom_id", "line_differs") from None
    for at in range(0, len(lines), _AT_ONCE):
        try:
            some = [(line_id, in_trace(request)) for line_id, request in lines[at : at + _AT_ONCE]]
            await asyncio.to_thread(context.batches.submit, name, some)
        except QueueFullError:
            full = await context.pulse.queue_full()
            full.message = (
                f"the queue is full; send the same lines later to ?id={batch_id}, for those that are missing"
            )
            raise full from None


def _lines(body: bytes, aliases: Mapping[str, Mapping[str, Any]]) -> list[Line]:
    """The requests of a batch; what is wrong is told with its line, and then nothing is queued."""
    lines: dict[str, SynthesisRequest] = {}
    for number, text in enumerate(body.split(b"\n"), start=1):
        if not text.strip():
            continue
        if len(lines) == MAX_LINES:
            raise bad_request(f"body: too long; accepted: up to {MAX_LINES} lines", code="too_many_lines")
        try:
            line_id, request = _line(text, aliases)
            if line_id in lines:
                raise bad_request(f"custom_id: {line_id!r} is there twice", "custom_id")
        except ApiError as error:
            error.message = f"line {number}: {error.message}"
            raise
        lines[line_id] = request
    if not lines:
        raise bad_request("body: empty; accepted: a line of JSON for each request", code="invalid_json")
    return list(lines.items())


def _line(text: bytes, aliases: Mapping[str, Mapping[str, Any]]) -> Line:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        raise bad_request("accepted: a JSON object", code="invalid_json") from None
    if not isinstance(told, dict):
        raise bad_request("accepted: a JSON object", code="invalid_json")
    line_id = _checked("custom_id", told.pop("custom_id", None))
    return line_id, parse_order({**told, "stream": False, "stream_format": None}, aliases).request


def _checked(name: str, given: Any) -> str:
    if not isinstance(given, str) or not _ID.fullmatch(given):
        raise bad_request(
            f"{name}: accepted: 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first", name
        )
    return given


class _Sink(io.RawIOBase):
    """Takes what a ZIP is written to."""

    def __init__(self) -> None:
        super().__init__()
        self._content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._content += data
        return len(data)

    def taken(self) -> bytes:
        """What has come since the last time."""
        content = bytes(self._content)
        self._content.clear()
        return content


async def _zipped(context: Context, found: Batch) -> AsyncIterator[bytes]:
    """A ZIP, a file at a time; audio is not compressed again."""
    sink, output, errors = _Sink(), list[dict[str, Any]](), list[dict[str, Any]]()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for line in found.lines:
            try:
                result, audio = await _audio(context, line)
            except ApiError as error:
                errors.append({"custom_id": line.id, **error.body()})
                continue
            name = f"{line.id}.{line.format}"
            archive.writestr(zipfile.ZipInfo(name), audio)
            output.append({"custom_id": line.id, "file": name, **result.model_dump(mode="json", include=_TOLD)})
            yield sink.taken()
        for name, told in ((_OUTPUT, output), (_ERRORS, errors)):
            archive.writestr(
                zipfile.ZipInfo(name), "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in told)
            )
    yield sink.taken()


async def _audio(context: Context, line: BatchLine) -> tuple[SynthesisResult, bytes]:
    """What has come of a line."""
    if line.state not in ("finished", "failed", "cancelled"):
        code = "not_queued" if line.state == "missing" else "not_finished"
        raise ApiError(404, f"{line.state}; ask again later, or send the line again", code=code)
    try:
        speech = await context.client.result(line.job_id, timeout=context.settings.read_timeout)
    except JobFailedError as error:
        raise failed(error) from None
    return speech.result, speech.audio
