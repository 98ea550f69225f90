"""Turns the body of a request for speech into a request for the workers.

OpenAI's fields are translated, the workers' own go through as they are. Fields of neither are ignored, because
clients send more than the API knows; one that looks like a misspelt field is refused.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gateway.errors import ApiError, bad_request
from rwkv_tts import RequestError, SynthesisRequest, parse_request
from rwkv_tts.attributes import EMOTION
from rwkv_tts.schema import FORMATS

StreamFormat = Literal["audio", "sse"]

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "ogg": "audio/ogg",
}
PCM_SAMPLE_RATE = 24_000
"""Of ``pcm`` where nothing is said: what OpenAI sends and its clients play."""

SPEEDS = {"very_slow": 0.5, "slow": 0.75, "medium": 1.0, "fast": 1.5, "very_fast": 2.0}
"""The model's levels of speed by OpenAI's number; between them the nearest by ratio is taken."""

_TRANSLATED = {"text": "input", "format": "response_format"}
"""The workers' names of fields that have another one here."""

OPENAI = {"input", "model", "voice", "instructions", "response_format", "speed", "stream_format", "stream"}
_OWN = set(SynthesisRequest.model_fields) - {*_TRANSLATED, "stream"}
KNOWN = sorted(OPENAI | _OWN)
_ALIKE = 0.8


@dataclass(frozen=True)
class Order:
    """What somebody wants to hear.

    Attributes:
        request: For the workers.
        stream_format: How the audio is sent while it is made; None where it is sent whole.
    """

    request: SynthesisRequest
    stream_format: StreamFormat | None

    @property
    def media_type(self) -> str:
        """Of the audio."""
        return MEDIA_TYPES[self.request.format]


def parse_order(body: Any, aliases: Mapping[str, Mapping[str, Any]]) -> Order:
    """Read the body of a request for speech.

    Args:
        body: JSON.
        aliases: Fields of a request by the name of a voice that stands for them.

    Raises:
        ApiError: Something in it is not accepted.
    """
    if not isinstance(body, dict):
        raise bad_request(f"body: {type(body).__name__}; accepted: a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    _refuse_misspelt(given)
    audio_format = _one_of("response_format", given.get("response_format", "mp3"), FORMATS)
    stream_format = _stream_format(given, audio_format)
    fields = {
        "text": given.get("input"),
        "format": audio_format,
        "stream": stream_format is not None,
        **({"sample_rate": PCM_SAMPLE_RATE} if audio_format == "pcm" else {}),
        **_instructed(given.get("instructions")),
        **_voice(given.get("voice"), aliases),
        **{name: value for name, value in given.items() if name in _OWN - {"voice", "speed"}},
        **_speed(given.get("speed")),
    }
    if fields["text"] is None:
        raise bad_request("input: missing; accepted: the text to speak", "input")
    return Order(parse(fields), stream_format)


def parse(fields: Mapping[str, Any]) -> SynthesisRequest:
    """A request for the workers from its fields.

    Raises:
        ApiError: Something in them is not accepted.
    """
    try:
        return parse_request(dict(fields))
    except RequestError as error:
        raise refused(error.refusal.field, str(error)) from None


def refused(field: str, message: str) -> ApiError:
    """The error for a field that the workers do not accept, with its name here."""
    name = _TRANSLATED.get(field, field)
    return bad_request(name + message[len(field) :] if message.startswith(field) else message, name or None)


def _refuse_misspelt(given: Mapping[str, Any]) -> None:
    for name in given.keys() - set(KNOWN):
        near = "input" if name == "text" else next(iter(difflib.get_close_matches(name, KNOWN, 1, _ALIKE)), None)
        if near is not None:
            raise bad_request(f"{name[:80]}: unknown field; did you mean {near}?", name[:80], "unknown_field")


def _one_of(name: str, value: Any, accepted: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in accepted:
        raise bad_request(f"{name}: {str(value)[:40]!r}; accepted: one of {', '.join(accepted)}", name)
    return value


def _stream_format(given: Mapping[str, Any], audio_format: str) -> StreamFormat | None:
    """How audio is sent while it is made: always, but a WAV whole, for its true length, unless asked for."""
    stream = given.get("stream", audio_format != "wav" or "stream_format" in given)
    if not isinstance(stream, bool):
        raise bad_request("stream: accepted: true or false", "stream")
    kind = _one_of("stream_format", given.get("stream_format", "audio"), get_args(StreamFormat))
    if kind == "sse":
        return "sse"
    return "audio" if stream else None


def _voice(voice: Any, aliases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The fields that make a voice."""
    name = voice.get("id") if isinstance(voice, dict) else voice
    if voice is not None and not isinstance(name, str):
        raise bad_request("voice: accepted: the id of a voice, or an object with its id", "voice")
    if name is None or name in aliases:
        return dict(aliases.get(name, {})) if name else {}
    return {"voice": name}


def _speed(speed: Any) -> dict[str, str]:
    """The level of a number, or of a level; the medium one is left out: it would change a stored voice."""
    if speed is None or isinstance(speed, str):
        return {} if speed is None else {"speed": speed}
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0.25 <= speed <= 4:
        raise bad_request(f"speed: accepted: a number from 0.25 to 4, or one of {', '.join(SPEEDS)}", "speed")
    level = min(SPEEDS, key=lambda name: abs(math.log(speed / SPEEDS[name])))
    return {} if level == "medium" else {"speed": level}


def _instructed(instructions: Any) -> dict[str, str]:
    """The first emotion that the instructions name, of those that the model knows."""
    if instructions is None:
        return {}
    if not isinstance(instructions, str):
        raise bad_request("instructions: accepted: text", "instructions")
    words = (word.strip(".,;:!?\"'()").lower() for word in instructions.split())
    emotion = next((word for word in words if word in EMOTION), None)
    return {} if emotion is None else {"emotion": emotion}
