"""What a job asks for and what it returns."""

import json
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError, to_json

from codec.audio import AudioFormat
from sampler.attributes import ATTRIBUTES, Attributes, canonical_attribute

MAX_TEXT = 20_000
MAX_METADATA_BYTES = 16_384

_DEFAULTS = Attributes()


def _attribute(name: str) -> BeforeValidator:
    def check(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return canonical_attribute(name, value)
        except ValueError as error:
            raise PydanticCustomError(
                "unknown_attribute", "{reason}", {"reason": f"unknown value {value[:40]!r}"}
            ) from error

    return BeforeValidator(check)


def _names(name: str) -> str:
    return "one of " + ", ".join(ATTRIBUTES[name])


def _echo_problem(metadata: dict[str, Any]) -> str | None:
    """Why metadata cannot be part of a result, or None."""
    try:
        size = len(to_json(metadata))  # as strict as the result's model_dump on depth and on lone surrogates
        json.dumps(metadata, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return "not JSON (NaN, bad Unicode or too many levels)"
    return "too large" if size > MAX_METADATA_BYTES else None


class SynthesisRequest(BaseModel):
    """One utterance to speak: in a stored voice when ``voice`` is set, else in a voice made from attributes.

    A field's description says what it accepts; error messages quote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str = Field(min_length=1, max_length=MAX_TEXT, description=f"1 to {MAX_TEXT} characters of text")
    voice: str | None = Field(default=None, description="the id of a stored voice")
    age: Annotated[str, _attribute("age")] = Field(default=_DEFAULTS.age, description=_names("age"))
    gender: Annotated[str, _attribute("gender")] = Field(default=_DEFAULTS.gender, description=_names("gender"))
    emotion: Annotated[str, _attribute("emotion")] = Field(
        default=_DEFAULTS.emotion, description=_names("emotion")
    )
    pitch: Annotated[str, _attribute("pitch")] = Field(default=_DEFAULTS.pitch, description=_names("pitch"))
    speed: Annotated[str, _attribute("speed")] = Field(default=_DEFAULTS.speed, description=_names("speed"))
    seed: int | None = Field(
        default=None, ge=0, lt=2**64, description="an integer from 0 to 2^64-1, or nothing to have one chosen"
    )
    format: AudioFormat = Field(default="wav", description="one of wav, flac, ogg, opus, mp3, pcm")
    temperature: float | None = Field(
        default=None, ge=0, le=5, allow_inf_nan=False, description="a number from 0 (greedy) to 5"
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="a number above 0 and up to 1"
    )
    top_k: int | None = Field(default=None, ge=0, description="an integer from 0 (keep all) up")
    max_seconds: float | None = Field(
        default=None, gt=0, le=3600, allow_inf_nan=False, description="a number above 0 and up to 3600"
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description=f"a JSON object of up to {MAX_METADATA_BYTES} bytes, echoed"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        clash = sorted(self.model_fields_set & ATTRIBUTES.keys()) if self.voice is not None else []
        if clash:
            raise PydanticCustomError(
                "voice_and_attributes",
                "{names}: a stored voice brings its own; accepted: voice without attributes, or attributes "
                "without voice",
                {"names": ", ".join(clash)},
            )
        if not self.text.strip():
            raise PydanticCustomError("blank", "text: nothing but blanks; accepted: text to speak")
        problem = _echo_problem(self.metadata)
        if problem is not None:
            raise PydanticCustomError(
                "metadata",
                "metadata: {problem}; accepted: {accepted}",
                {"problem": problem, "accepted": type(self).model_fields["metadata"].description},
            )
        return self

    def attributes(self) -> Attributes:
        return Attributes(**{name: getattr(self, name) for name in ATTRIBUTES})


class RequestError(ValueError):
    """A request that cannot be served; one line that names the field, the problem and what is accepted."""


def parse_request(value: Any) -> SynthesisRequest:
    """Validate a request as it came from JSON.

    Raises:
        RequestError: Something in it is not accepted.
    """
    if not isinstance(value, dict):
        raise RequestError(f"request: {type(value).__name__}; accepted: a JSON object")
    try:
        return SynthesisRequest.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        raise RequestError("; ".join(_problem(p["loc"], p["type"], p["msg"]) for p in problems[:5])) from None


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    if not location and kind != "string_unicode":
        return message
    if not location:
        return f"request: a field name that is not Unicode; accepted: {_field_names()}"
    name = str(location[0])
    if kind == "extra_forbidden":
        return f"{repr(name[:80])[1:-1]}: unknown field; accepted: {_field_names()}"
    return f"{name}: {message}; accepted: {SynthesisRequest.model_fields[name].description}"


def _field_names() -> str:
    return ", ".join(SynthesisRequest.model_fields)


class TokenCounts(BaseModel):
    """Tokens of the finished row; a stored voice's global tokens count as well."""

    globals: int
    semantic: int


class Timings(BaseModel):
    """Seconds. ``queued`` is enqueue to claim; the others follow the claim and ``total`` is their end."""

    queued: float
    prefill: float
    decode: float
    vocode: float
    encode: float
    first_audio: float
    total: float


class SynthesisResult(BaseModel):
    """The return value of a job; the audio lies under its own key in the same Redis."""

    job_id: str
    audio_key: str
    format: AudioFormat
    sample_rate: int
    seconds: float
    seed: int
    finish_reason: str
    tokens: TokenCounts
    trace_sha256: str
    timings: Timings
    mean_batch: float
    rtf: float
    warnings: list[str]
    metadata: dict[str, Any]
