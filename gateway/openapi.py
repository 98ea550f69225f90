"""The OpenAPI document of ``/openapi.json``: what a gateway takes and answers."""

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from gateway import __version__
from gateway.batches import STATES
from gateway.orders import KNOWN, MEDIA_TYPES, PCM_SAMPLE_RATE, SPEEDS
from rwkv_tts import SynthesisRequest
from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.schema import FORMATS

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_OPEN: list[Json] = [{}]
"""Security of what needs no key."""

_ERRORS = {
    400: "the request is wrong",
    401: "no key, or a wrong one",
    403: "this caller may not",
    408: "the body did not come in time",
    413: "the body is too long",
    429: "too many requests; Retry-After says when to try again",
    500: "the speech could not be made",
    503: "no worker listens, or Redis is away",
    504: "it was not spoken in time",
}
_ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


async def openapi(_: Request) -> JSONResponse:
    """The document."""
    return JSONResponse(document())


@cache
def document() -> Json:
    """The document, as JSON."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "rwkv-tts gateway", "version": __version__},
        "security": [{"key": []}],
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR, "Speech": _speech(), "Voice": _voice()},
        },
        "paths": _paths(),
    }


def _paths() -> Json:
    names, listed = {"voices": _list(_object(id=_TEXT, name=_TEXT))}, {"data": _list(_ref("Voice"))}
    models, one = {"data": _list(_object(id=_TEXT))}, _object(id=_TEXT, object=_TEXT)
    return {
        "/v1/audio/speech": {"post": _operation("Speak a text", _audio(), _json(_ref("Speech")))},
        **{
            path: {"get": _public("The voices by name", _answer(_object(**names)), 503)}
            for path in ("/v1/audio/voices", "/audio/voices")
        },
        **{
            path: {"get": _public("The models", _answer(_object(**models)))}
            for path in ("/v1/models", "/v1/audio/models", "/audio/models")
        },
        "/v1/models/{model}": {"get": {**_public("A model", _answer(one), 404), **_parameter("model")}},
        "/v1/voices": {
            "get": _reading("The kept voices", _answer(_object(**listed))),
            "post": _operation("Clone a voice", {"201": _body("the voice", _ref("Voice"))}, _form()),
        },
        "/v1/voices/{voice}": {
            "delete": {
                **_reading("Remove a kept voice", _answer(_object(id=_TEXT, deleted={"const": True})), 404),
                **_parameter("voice"),
            }
        },
        **_batches(),
        "/v1/status": {"get": _reading("How the workers do", _answer(_object(queue={}, workers={}, rows={})))},
        "/healthz": {"get": _public("Whether the gateway lives", _answer(_object(status=_TEXT)))},
        "/readyz": {"get": _public("Whether a worker listens", _answer(_object(status=_TEXT)), 503)},
    }


def _batches() -> Json:
    counted: Json = {"type": "integer", "minimum": 0}
    counts = _object(**dict.fromkeys(("total", *STATES), counted))
    status = {"enum": ["in_progress", "completed", "cancelled"]}
    told = _object(id=_TEXT, object={"const": "batch"}, status=status, created_at=counted, counts=counts)
    lines = {"required": True, "content": {"application/jsonl": {"schema": _TEXT}}}
    named = [{"name": "id", "in": "query", "required": False, "schema": _TEXT}]
    answers, parameter = {"201": _body("the batch", told)}, _parameter("batch")
    zipped = {"200": {"description": "all files, as a ZIP", "content": {"application/zip": {}}}}
    return {
        "/v1/batches": {
            "post": _operation("Queue many requests", answers, {"requestBody": lines, "parameters": named})
        },
        "/v1/batches/{batch}": {
            "get": {**_reading("How far a batch is", _answer(told), 404), **parameter},
            "delete": {**_reading("Cancel a batch", _answer(told), 404), **parameter},
        },
        "/v1/batches/{batch}/files": {"get": {**_reading("The files of a batch", zipped, 404), **parameter}},
    }


def _speech() -> Json:
    """The body of a request for speech: OpenAI's fields, then the workers' own as these describe them."""
    own = SynthesisRequest.model_json_schema()["properties"]
    fields = {name: own[name] for name in KNOWN if name in own}
    fields |= {name: {**own[name], "enum": list(values)} for name, values in ATTRIBUTES.items()}
    voice: Json = {"anyOf": [_TEXT, _object(id=_TEXT), {"type": "null"}], "description": "a voice's id or name"}
    speed: Json = {"anyOf": [{"type": "number", "minimum": 0.25, "maximum": 4}, {"enum": [*SPEEDS, None]}]}
    rate = f"Hz; the model's when absent, of pcm {PCM_SAMPLE_RATE}"
    fields |= {
        "input": {**own["text"], "title": "Input"},
        "model": {"type": ["string", "null"], "description": "any name: there is one model"},
        "voice": voice,
        "speed": speed,
        "instructions": {"type": ["string", "null"], "description": "the first emotion that it names is taken"},
        "response_format": {"enum": [*FORMATS, None], "default": "mp3"},
        "sample_rate": {**own["sample_rate"], "description": rate},
        "stream_format": {"enum": ["audio", "sse", None]},
        "stream": {"type": ["boolean", "null"], "description": "false: the audio comes whole"},
    }
    return {"type": "object", "required": ["input"], "properties": fields}


def _voice() -> Json:
    return _object(id=_TEXT, object={"const": "voice"}, name=_TEXT, transcript=_TEXT, seconds={"type": "number"})


def _audio() -> Json:
    kinds = [*dict.fromkeys(MEDIA_TYPES.values()), "text/event-stream"]
    return {"200": {"description": "audio, while it is made", "content": {kind: {} for kind in kinds}}}


def _form() -> Json:
    recording = {"type": "string", "format": "binary", "description": "a recording of the voice"}
    consent = {"const": "true", "description": "whose voice it is has agreed"}
    fields = _object(name=_TEXT, recording=recording, consent=consent)
    fields["properties"]["transcript"] = {**_TEXT, "description": "the words spoken in it"}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": fields}}}}


def _operation(summary: str, answers: Json, body: Json) -> Json:
    return {"summary": summary, "responses": {**answers, **_failures(*_ERRORS)}, **body}


def _reading(summary: str, answers: Json, *more: int) -> Json:
    return {"summary": summary, "responses": {**answers, **_failures(401, 403, 503, *more)}}


def _public(summary: str, answers: Json, *more: int) -> Json:
    return {"summary": summary, "security": _OPEN, "responses": {**answers, **_failures(*more)}}


def _failures(*statuses: int) -> Json:
    return {str(status): _body(_ERRORS.get(status, "there is none"), _ref("Error")) for status in statuses}


def _answer(schema: Json) -> Json:
    return {"200": _body("the answer", schema)}


def _body(description: str, schema: Json) -> Json:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _json(schema: Json) -> Json:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _parameter(name: str) -> Json:
    return {"parameters": [{"name": name, "in": "path", "required": True, "schema": _TEXT}]}


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": dict(properties)}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}
