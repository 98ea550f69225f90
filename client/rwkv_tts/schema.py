"""What a job asks for and what it returns."""

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError, to_json

from rwkv_tts.attributes import ATTRIBUTES, Attributes, canonical_attribute
from rwkv_tts.refusal import Cause, Refusal, RequestError, invalid

MAX_TEXT = 1_000_000
"""Characters: a book."""

MAX_METADATA_BYTES = 16_384
MAX_REFERENCE_BYTES = 8 << 20
MAX_REFERENCE_TEXT = 2_000
"""Characters; the longest reference is a minute of speech, which is about 1,200."""

AudioFormat = Literal["wav", "flac", "ogg", "opus", "mp3", "aac", "pcm"]
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)

LEAST_RATE, MOST_RATE = 8_000, 48_000
RATES: dict[AudioFormat, tuple[int, ...]] = {
    "opus": (8_000, 12_000, 16_000, 24_000, 48_000),
    **dict.fromkeys(("mp3", "aac"), (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
}
"""Hz; of formats that do not have every rate."""

Mode = Literal["attributes", "voice", "reference"]
Language = Literal["auto", "en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
EosGuard = Literal["none", "rwkv-tts-rs"]

_DEFAULTS = Attributes()
_PROBLEMS = 5
"""Wrong fields that a message names at most."""


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


def _rates(audio_format: AudioFormat) -> str:
    return f"with {audio_format} one of {', '.join(map(str, RATES[audio_format]))}"


def _echo_problem(metadata: dict[str, Any]) -> str | None:
    """Why metadata cannot be part of a result, or None."""
    try:
        size = len(to_json(metadata))  # as strict as the result's model_dump on depth and on lone surrogates
        json.dumps(metadata, allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return "not JSON (NaN, bad Unicode or too many levels)"
    return "too large" if size > MAX_METADATA_BYTES else None


def _base64_problem(text: str) -> str | None:
    """Why a text is not the base64 of an acceptable recording, or None; nothing is decoded."""
    size = len(text) * 3 // 4 - text[-2:].count("=")
    if size > MAX_REFERENCE_BYTES:
        return f"{size} bytes"
    if not text or len(text) % 4 or not _BASE64.fullmatch(text):
        return "not base64"
    return None


_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def _without_data_url(value: Any) -> Any:
    """The base64 of a ``data:`` URL, as browsers write it; anything else as it is."""
    prefix = _DATA_URL.match(value) if isinstance(value, str) else None
    return value[prefix.end() :] if prefix else value


class SynthesisRequest(BaseModel):
    """One utterance to speak, in one of three modes.

    ``voice`` speaks with a stored voice, ``reference`` with a voice cloned from the recording that comes along;
    with neither a voice is made from the attributes. Attributes may be combined with a voice or a reference:
    the published models have seen such prompts in training, but no other system offers them and how much they
    change is not measured; they go into the prompt as soon as one of them is set, the others as their defaults.

    With the transcript (``use_transcript`` of a stored voice, ``reference_text`` of a reference) the recording
    itself, its words and its speech, becomes the beginning of what the model continues; without it only the
    sound of the voice is taken.

    A field's description says what it accepts; error messages quote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    text: str = Field(min_length=1, max_length=MAX_TEXT, description=f"1 to {MAX_TEXT} characters of text")
    voice: str | None = Field(
        default=None, description="the id of a stored voice, or job:<id of a job> for its voice"
    )
    normalize: bool | None = Field(
        default=None, description="true or false, whether to read numbers and signs as words; or nothing"
    )
    language: Language = Field(default="auto", description=f"one of {', '.join(LANGUAGES)}")
    use_transcript: bool = Field(default=False, description="true or false; true with a stored voice only")
    reference: Annotated[str | None, BeforeValidator(_without_data_url)] = Field(
        default=None,
        repr=False,
        description=f"the base64 (padded, one line) or the data: URL of an audio file of up to "
        f"{MAX_REFERENCE_BYTES} bytes",
    )
    reference_text: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_REFERENCE_TEXT,
        description=f"1 to {MAX_REFERENCE_TEXT} characters, the words spoken in the reference",
    )
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
    format: AudioFormat = Field(default="wav", description=f"one of {', '.join(FORMATS)}")
    sample_rate: int | None = Field(
        default=None,
        ge=LEAST_RATE,
        le=MOST_RATE,
        description=f"an integer from {LEAST_RATE} to {MOST_RATE} (Hz), or nothing for the model's",
    )
    temperature: float | None = Field(
        default=None, ge=0, le=5, allow_inf_nan=False, description="a number from 0 (greedy) to 5"
    )
    top_p: float | None = Field(
        default=None, gt=0, le=1, allow_inf_nan=False, description="a number above 0 and up to 1"
    )
    top_k: int | None = Field(default=None, ge=0, description="an integer from 0 (keep all) up")
    max_seconds: float | None = Field(
        default=None, gt=0, le=100_000, allow_inf_nan=False, description="a number above 0 and up to 100000"
    )
    timestamps: bool = Field(default=False, description="true or false; true to have every part's time told")
    stream: bool = Field(default=False, description="true or false; true to have the audio while it is made")
    eos_guard: EosGuard = Field(
        default="none",
        description="none, or rwkv-tts-rs (its rules against an early end; voice or reference only)",
    )
    metadata: dict[str, Any] = Field(
        default_factory=dict, description=f"a JSON object of up to {MAX_METADATA_BYTES} bytes, echoed"
    )

    @model_validator(mode="after")
    def _check(self) -> "SynthesisRequest":
        for field, problem in self._problems():
            if problem is not None:
                raise PydanticCustomError("not_accepted", "{problem}", {"field": field, "problem": problem})
        return self

    def _problems(self) -> Iterator[tuple[str, str | None]]:
        """Each rule's fields and complaint, or None."""
        if not self.text.strip():
            yield "text", "nothing but blanks; accepted: text to speak"
        if self.voice is not None and self.reference is not None:
            yield "voice, reference", "both are set; accepted: one of them, or neither"
        yield from self._transcript_problems()
        if self.reference is not None:
            yield "reference", self._refused("reference", _base64_problem(self.reference))
        if self.sample_rate not in (None, *RATES.get(self.format, (self.sample_rate,))):
            yield "sample_rate", f"{self.sample_rate} with {self.format}; accepted: {_rates(self.format)}"
        if self.eos_guard != "none" and self.mode == "attributes":
            yield "eos_guard", "no voice is given; accepted: none, or rwkv-tts-rs with voice or reference"
        yield "metadata", self._refused("metadata", _echo_problem(self.metadata))

    def _transcript_problems(self) -> Iterator[tuple[str, str]]:
        if self.use_transcript and self.voice is None:
            yield (
                "use_transcript",
                "no stored voice; accepted: true with voice, or reference with reference_text",
            )
        if self.reference_text is None:
            return
        if self.reference is None:
            yield "reference_text", "no reference; accepted: with reference, or use_transcript with voice"
        if not self.reference_text.strip():
            yield "reference_text", "nothing but blanks; accepted: the words spoken in the reference"

    def _refused(self, name: str, problem: str | None) -> str | None:
        return problem and f"{problem}; accepted: {type(self).model_fields[name].description}"

    @property
    def mode(self) -> Mode:
        """Where the voice comes from."""
        if self.voice is not None:
            return "voice"
        return "attributes" if self.reference is None else "reference"

    def attributes(self) -> Attributes | None:
        """The attributes for the prompt; None where a voice is given and none of them is set."""
        if self.mode != "attributes" and not self.model_fields_set & ATTRIBUTES.keys():
            return None
        return Attributes(**{name: getattr(self, name) for name in ATTRIBUTES})


def parse_request(value: Any) -> SynthesisRequest:
    """Validate a request as it came from JSON.

    Raises:
        RequestError: Something in it is not accepted.
    """
    if not isinstance(value, dict):
        raise invalid("request", f"{type(value).__name__}; accepted: a JSON object")
    try:
        return SynthesisRequest.model_validate(value)
    except ValidationError as error:
        refusals = [_refusal(problem) for problem in error.errors(include_url=False)[:_PROBLEMS]]
    first, *others = refusals
    message = "; ".join([first.message, *map(str, others)])
    raise RequestError(Refusal(first.field, Cause.INVALID, message))


def _refusal(problem: ErrorDetails) -> Refusal:
    """What pydantic says of one field, or one of our rules of several."""
    location, message = problem["loc"], problem["msg"]
    if problem["type"] == "not_accepted":
        return Refusal(problem["ctx"]["field"], Cause.INVALID, message)
    if not location:
        return Refusal("request", Cause.INVALID, f"a field name that is not Unicode; accepted: {_field_names()}")
    name = str(location[0])
    if problem["type"] == "extra_forbidden":
        return Refusal(repr(name[:80])[1:-1] or "''", Cause.INVALID, f"unknown field; accepted: {_field_names()}")
    accepted = SynthesisRequest.model_fields[name].description
    return Refusal(name, Cause.INVALID, f"{message}; accepted: {accepted}")


def _field_names() -> str:
    return ", ".join(SynthesisRequest.model_fields)


class TokenCounts(BaseModel):
    """Tokens of the finished row; a given voice's global tokens count as well, its own speech does not."""

    globals: int
    semantic: int


class Timings(BaseModel):
    """Seconds. ``queued`` is enqueue to claim; the others follow the claim and ``total`` is their end.

    ``clone`` is from the claim to the tokens of the reference, 0 without one. Of a stream, ``waits`` is how often
    a listener who began at once would have had nothing to hear, and ``waited`` for how long in all.
    """

    queued: float
    clone: float = 0.0
    prefill: float
    decode: float
    vocode: float
    encode: float
    first_audio: float
    total: float
    waits: int = 0
    waited: float = 0.0


class PartResult(BaseModel):
    """A piece of the text in the audio.

    ``text`` is its span in the request's text, in characters; ``begin`` and ``end`` are of its speech, in seconds.
    """

    text: tuple[int, int]
    begin: float
    end: float
    seed: int
    finish_reason: str


class SynthesisResult(BaseModel):
    """The return value of a job; the audio lies under its own key in the same Redis, or at the address.

    ``model`` and what follows tell what has made it; "" in the results of older workers.
    """

    job_id: str
    audio_key: str
    address: str | None = None
    format: AudioFormat
    mode: Mode
    sample_rate: int
    seconds: float
    seed: int
    finish_reason: str
    tokens: TokenCounts
    trace_sha256: str
    timings: Timings
    mean_batch: float
    rtf: float
    attempts: int = 0
    parts: list[PartResult] | None = None
    warnings: list[str]
    metadata: dict[str, Any]
    model: str = ""
    model_sha256: str = ""
    engine: str = ""
    version: str = ""
