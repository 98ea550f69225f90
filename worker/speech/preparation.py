"""From a request to an utterance: its voice found, its first part made."""

import base64
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

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
from worker.delivery.encoding import obstacle
from worker.speech.config import AttributeConfig
from worker.speech.kept import read_kept
from worker.speech.model import SpeechModel
from worker.speech.reading import Reader, speakable_field
from worker.speech.utterance import Part, Speaker, Utterance
from worker.speech.wording import wording
from worker.text.measure import spoken_length
from worker.text.speakable import Speakable, TextConfig

TOKENS_PER_SECOND = 50
_SLOWEST, _FASTEST = 5.0, 28.0
"""Bytes of text a second that somebody may speak, in English or in Chinese."""

MOST_TRANSCRIPT_TOKENS = int(RecordingLimits().max_seconds * TOKENS_PER_SECOND)
"""A stored voice's semantic tokens may fill no more of a prompt than those of the longest reference."""


def make_utterance(
    speech: SpeechModel,
    job_id: str,
    request: SynthesisRequest,
    queued: float = 0.0,
    before: Sequence[bytes] = (),
) -> Utterance:
    """Find the voice of a request and make its first part; one with a reference still needs ``with_voice``.

    Args:
        speech: The loaded model.
        job_id: The caller's name for the utterance.
        request: What to say, and how.
        queued: Seconds that it has waited.
        before: What earlier workers have kept of it.

    Raises:
        RequestError: The voice is unknown or has no transcript, or the model cannot say a text or use a
            reference.
    """
    _check_served(speech, request)
    stored = _stored(speech, request)
    kept = read_kept(before)
    seed = secrets.randbits(64) if request.seed is None else request.seed
    utterance = Utterance(job_id, request, [], queued, kept.seed if kept else seed, kept=kept)
    config = wording(speech.config.text, request)
    utterance.reading = _reading(speech, utterance, config, _transcript(request, stored, config))
    part = next(utterance.reading)
    utterance.parts.append(part)
    if part.span[1] == len(request.text):
        utterance.reading = None
    if request.reference is not None:
        utterance.recording = base64.b64decode(request.reference, validate=True)
    elif stored is not None:
        utterance.speaker = Speaker(stored.global_tokens, stored.semantic_tokens)
        part.prompt(speech.layout, utterance.speaker)
    elif kept is not None:
        utterance.speaker = Speaker(kept.voice)
        part.prompt(speech.layout, utterance.speaker)
    else:
        assert part.script is not None
        part.row.decoding = replace(part.row.decoding, prompt=part.script.prompt(speech.layout))
    return utterance


def with_voice(utterance: Utterance, speech: SpeechModel, voice: EncodedVoice) -> None:
    """Complete the first part of an utterance with the tokens of its recording, and let go of the bytes.

    Raises:
        RequestError: The recording has a transcript, but there are no semantic tokens to go with it.
        ValueError: The tokens do not fit the model's layout.
    """
    speaker = Speaker(voice.globals_, voice.semantic)
    for part in utterance.parts:
        if part.script is not None and part.script.transcript and not voice.semantic:
            raise invalid("reference", "no semantic tokens; accepted: reference without reference_text")
        part.prompt(speech.layout, speaker)
    for warning in (*voice.faults, *_transcript_faults(utterance.request.reference_text, voice)):
        utterance.warn(f"reference: {warning}")
    utterance.voice, utterance.speaker = voice, speaker
    utterance.recording = None
    utterance.cloned_at = time.monotonic()


def _transcript_faults(text: str | None, voice: EncodedVoice) -> Iterator[str]:
    """Why what a recording says may be heard again before what is asked for."""
    if text is None:
        return
    if voice.cut_off:
        yield "it ends within a word; with reference_text the rest of that may be spoken first"
    rate = spoken_length(text) / voice.seconds
    if not _SLOWEST <= rate <= _FASTEST:
        fault = "more" if rate > _FASTEST else "less"
        yield (
            f"reference_text has {fault} words than are said in {voice.seconds:.1f} s; words that are on one side "
            "only may be spoken or get lost"
        )


def _reading(
    speech: SpeechModel, utterance: Utterance, config: TextConfig, transcript: Speakable | None
) -> Iterator[Part]:
    """What makes the parts of an utterance."""
    request = utterance.request
    attributes, untrained = _trained(request.attributes(), speech.config.attributes)
    utterance.warnings += [*(transcript.warnings if transcript else ()), *untrained]

    def decoding(text: str, text_ids: list[int]) -> Decoding:
        return Decoding(
            layout=speech.layout,
            prompt=(),
            limit=semantic_limit(text, _most_tokens(request)),
            global_sampling=_override(GLOBAL_SAMPLING, request, speech.layout),
            semantic_sampling=_override(SEMANTIC_SAMPLING, request, speech.layout),
            first_eos=rust_first_eos(len(text_ids)) if request.eos_guard == "rwkv-tts-rs" else 0,
        )

    reader = Reader(
        utterance.id,
        utterance.seed,
        speech.encode_text,
        config,
        attributes,
        transcript,
        decoding,
        utterance.warn,
        utterance.kept.parts if utterance.kept else {},
    )
    return reader.parts(request.text, utterance.end_with)


def _check_served(speech: SpeechModel, request: SynthesisRequest) -> None:
    for name, reason in speech.refusals.items():
        if getattr(request, name) is not None:
            raise invalid(name, reason)
    problem = obstacle(request.format)
    if problem is not None:
        raise invalid("format", f"{request.format}: {problem}")


def _stored(speech: SpeechModel, request: SynthesisRequest) -> Voice | None:
    if request.voice is None:
        return None
    try:
        return speech.voices.get(request.voice)
    except VoiceError as error:
        raise invalid("voice", str(error)) from error


def _transcript(request: SynthesisRequest, stored: Voice | None, config: TextConfig) -> Speakable | None:
    """The words of the recording that the row is to continue, as they are tokenised; None without one."""
    if request.reference_text is not None:
        return speakable_field("reference_text", request.reference_text, config)
    if stored is None or not request.use_transcript:
        return None
    _check_transcript(stored)
    return speakable_field(f"use_transcript: voice {stored.id!r}", stored.prompt_text, config)


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
