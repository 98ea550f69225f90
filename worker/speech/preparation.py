"""From a request to an utterance: its text normalised and tokenised, its voice found, its row made."""

import base64
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from unicodedata import east_asian_width
from unicodedata import name as unicode_name

from batching.row import Row
from codec.recording import RecordingLimits
from codec.voice_encoder import EncodedVoice
from rwkv_tts.attributes import ATTRIBUTES, Attributes
from rwkv_tts.refusal import invalid
from rwkv_tts.schema import MAX_REFERENCE_TEXT, SynthesisRequest
from rwkv_tts.voices import Voice, VoiceError
from sampler.decoding import (
    GLOBAL_SAMPLING,
    MAX_SEMANTIC_TOKENS,
    SEMANTIC_SAMPLING,
    Decoding,
    PhaseSampling,
    rust_first_eos,
    semantic_limit,
)
from sampler.layout import TokenLayout
from worker.speech.config import AttributeConfig
from worker.speech.model import SpeechModel
from worker.speech.utterance import Part, Script, Utterance
from worker.text.speakable import Speakable, TextConfig, UnspeakableError, speakable

TOKENS_PER_SECOND = 50
MOST_TRANSCRIPT_TOKENS = int(RecordingLimits().max_seconds * TOKENS_PER_SECOND)
"""A stored voice's semantic tokens may fill no more of a prompt than those of the longest reference."""


def make_utterance(speech: SpeechModel, job_id: str, request: SynthesisRequest, queued: float = 0.0) -> Utterance:
    """Normalise and tokenise a request and make its row; one with a reference still needs ``with_voice``.

    Raises:
        RequestError: The voice is unknown or has no transcript, or the model cannot say a text or use a
            reference.
    """
    _check_served(speech, request)
    stored = _stored(speech, request)
    spoken = _speakable("text", request.text, speech.config.text)
    script, text_ids, warnings = _script(speech, request, spoken, _transcript(speech, request, stored))
    decoding = Decoding(
        layout=speech.layout,
        prompt=(),
        seed=secrets.randbits(64) if request.seed is None else request.seed,
        limit=semantic_limit(spoken.text, _most_tokens(request)),
        global_sampling=_override(GLOBAL_SAMPLING, request, speech.layout),
        semantic_sampling=_override(SEMANTIC_SAMPLING, request, speech.layout),
        first_eos=rust_first_eos(len(text_ids)) if request.eos_guard == "rwkv-tts-rs" else 0,
    )
    part = Part(Row(job_id, decoding), script)
    utterance = Utterance(job_id, request, [part], queued, warnings)
    if request.reference is not None:
        utterance.recording = base64.b64decode(request.reference, validate=True)
    elif stored is not None:
        _prompt(part, speech.layout, stored.global_tokens, stored.semantic_tokens)
    else:
        part.row.decoding = replace(decoding, prompt=script.prompt(speech.layout))
    return utterance


def with_voice(utterance: Utterance, speech: SpeechModel, voice: EncodedVoice) -> None:
    """Complete the rows of an utterance with the tokens of its recording, in place, and let go of the bytes.

    Raises:
        RequestError: The recording has a transcript, but there are no semantic tokens to go with it.
        ValueError: The tokens do not fit the model's layout.
    """
    for part in utterance.parts:
        if part.script is not None and part.script.transcript and not voice.semantic:
            raise invalid("reference", "no semantic tokens; accepted: reference without reference_text")
        _prompt(part, speech.layout, voice.globals_, voice.semantic)
    utterance.voice = voice
    utterance.recording = None
    utterance.cloned_at = time.monotonic()


def _prompt(part: Part, layout: TokenLayout, globals_: Sequence[int], semantic: Sequence[int]) -> None:
    """Give a row that has not run its prompt."""
    assert part.script is not None
    prompt = part.script.prompt(layout, globals_, semantic)
    part.row.decoding = replace(part.row.decoding, prompt=prompt, voice=globals_)


def _check_served(speech: SpeechModel, request: SynthesisRequest) -> None:
    for name, reason in speech.refusals.items():
        if getattr(request, name) is not None:
            raise invalid(name, reason)


def _stored(speech: SpeechModel, request: SynthesisRequest) -> Voice | None:
    if request.voice is None:
        return None
    try:
        return speech.voices.get(request.voice)
    except VoiceError as error:
        raise invalid("voice", str(error)) from error


def _transcript(speech: SpeechModel, request: SynthesisRequest, stored: Voice | None) -> Speakable | None:
    """The words of the recording that the row is to continue, as they are tokenised; None without one."""
    if request.reference_text is not None:
        return _speakable("reference_text", request.reference_text, speech.config.text)
    if stored is None or not request.use_transcript:
        return None
    _check_transcript(stored)
    return _speakable(f"use_transcript: voice {stored.id!r}", stored.prompt_text, speech.config.text)


def _check_transcript(voice: Voice) -> None:
    tokens, characters = len(voice.semantic_tokens), len(voice.prompt_text)
    if not tokens or not voice.prompt_text.strip():
        raise invalid(
            "use_transcript",
            f"voice {voice.id!r} has no transcript; accepted: a voice with prompt_text and semantic_tokens",
        )
    if tokens > MOST_TRANSCRIPT_TOKENS or characters > MAX_REFERENCE_TEXT:
        raise invalid(
            "use_transcript",
            f"voice {voice.id!r} has {tokens} semantic tokens and {characters} characters of "
            f"prompt_text; accepted: up to {MOST_TRANSCRIPT_TOKENS} and {MAX_REFERENCE_TEXT}",
        )


def _speakable(field: str, text: str, config: TextConfig) -> Speakable:
    """What the model is given to speak; its warnings, and the error, name the field."""
    try:
        spoken = speakable(text, config)
    except UnspeakableError as error:
        raise invalid(field, str(error)) from None
    return Speakable(spoken.text, [f"{field}: {warning}" for warning in spoken.warnings])


def _script(
    speech: SpeechModel, request: SynthesisRequest, spoken: Speakable, transcript: Speakable | None
) -> tuple[Script, list[int], list[str]]:
    """The script, the ids of the request's text alone, and what the requester should know."""
    attributes, untrained = _trained(request.attributes(), speech.config.attributes)
    text_ids, warnings = speech.encode_text(spoken.text), [*spoken.warnings, *untrained]
    if transcript is None:
        return Script(text_ids, attributes), text_ids, warnings
    whole = join_texts(transcript.text, spoken.text)
    longest = speech.config.text.longest
    if longest is not None and max(len(transcript.text), len(spoken.text)) <= longest < len(whole):
        warnings.append(
            f"text: {len(whole)} characters with the transcript; this model was trained on up to {longest}, "
            "words may get lost; shorter texts are safer"
        )
    script = Script(speech.encode_text(whole), attributes, transcript=True)
    return script, text_ids, transcript.warnings + warnings


def join_texts(transcript: str, text: str) -> str:
    """The transcript of a recording and the text that goes on from it, as one text.

    They are put together as they are, as the published Python system does; only between two texts in Latin
    letters a missing space is added, which would otherwise join two words or glue a full stop to the next.
    """
    edges = transcript[-1:] + text[:1]
    if any(char.isspace() or east_asian_width(char) in ("W", "F") for char in edges):
        return transcript + text
    latin = _starts_latin(reversed(transcript)) and _starts_latin(text)
    return f"{transcript} {text}" if latin else transcript + text


def _starts_latin(chars: Iterable[str]) -> bool:
    """Whether the first letter or digit is a Latin or ASCII one."""
    first = next(filter(str.isalnum, chars), "")
    return bool(first) and (first.isascii() or unicode_name(first, "").startswith("LATIN "))


def _trained(wanted: Attributes | None, config: AttributeConfig | None) -> tuple[Attributes | None, list[str]]:
    """The attributes with trained values in place of those that the model never saw, and a warning for each."""
    if wanted is None or config is None:
        return wanted, []
    names = {name: getattr(wanted, name) for name in ATTRIBUTES}
    used = {name: config.nearest(name, value) for name, value in names.items()}
    warnings = [
        f"{name} {value!r}: this model was trained on {_list(config.trained(name))} only; {used[name]} is used"
        for name, value in names.items()
        if used[name] != value
    ]
    return Attributes(**used), warnings


def _list(values: tuple[str, ...]) -> str:
    return " and ".join(filter(None, (", ".join(values[:-1]), values[-1])))


def _most_tokens(request: SynthesisRequest) -> int:
    if request.max_seconds is None:
        return MAX_SEMANTIC_TOKENS
    return max(1, int(request.max_seconds * TOKENS_PER_SECOND))


def _override(default: PhaseSampling, request: SynthesisRequest, layout: TokenLayout) -> PhaseSampling:
    """The phase's default parameters, with those that the request sets."""
    return PhaseSampling(
        temperature=default.temperature if request.temperature is None else request.temperature,
        top_p=default.top_p if request.top_p is None else request.top_p,
        top_k=default.top_k if request.top_k is None else min(request.top_k, layout.head_size),
    )
