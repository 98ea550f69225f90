"""From a request to a row of the engine, and from a finished row to a result."""

import base64
import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from unicodedata import east_asian_width
from unicodedata import name as unicode_name

import numpy as np
import numpy.typing as npt

from batching.row import Row
from codec.recording import RecordingLimits
from codec.voice_encoder import EncodedVoice
from rwkv_tts.attributes import ATTRIBUTES, Attributes
from rwkv_tts.keys import audio_key
from rwkv_tts.schema import (
    MAX_REFERENCE_TEXT,
    RequestError,
    SynthesisRequest,
    SynthesisResult,
    Timings,
    TokenCounts,
)
from rwkv_tts.voice_store import VoiceTokens
from rwkv_tts.voices import Voice, VoiceError
from sampler.decoding import (
    GLOBAL_SAMPLING,
    MAX_SEMANTIC_TOKENS,
    SEMANTIC_SAMPLING,
    Decoding,
    FinishReason,
    PhaseSampling,
    rust_first_eos,
    semantic_limit,
)
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt
from worker.speech.directory import AttributeConfig, SpeechModel
from worker.text.speakable import Speakable, TextConfig, speakable

MODEL_FAULT = "model: "
"""How the reason begins when what the model drew is at fault."""

TOKENS_PER_SECOND = 50
MOST_REFERENCE_TOKENS = int(RecordingLimits().max_seconds * TOKENS_PER_SECOND)
"""A stored voice's semantic tokens may fill no more of a prompt than those of the longest reference."""


@dataclass(frozen=True)
class Script:
    """What a row is given to say, before its voice is known.

    Attributes:
        text_ids: Tokenizer ids of the text, after the voice's transcript where ``transcript`` is set.
        attributes: To write before the text; None leaves them out.
        transcript: The voice's own semantic tokens go into the prompt too (both or neither).
    """

    text_ids: list[int]
    attributes: Attributes | None = None
    transcript: bool = False

    def prompt(
        self, layout: TokenLayout, globals_: Sequence[int] | None = None, semantic: Sequence[int] = ()
    ) -> list[int]:
        """Token ids to prefill for a voice's raw global and semantic tokens, or to sample a voice."""
        if globals_ is None:
            assert self.attributes is not None
            return attribute_prompt(layout, self.text_ids, self.attributes)
        speech = semantic if self.transcript else ()
        return voice_prompt(layout, self.text_ids, globals_, attributes=self.attributes, semantic=speech)


@dataclass(eq=False)
class Utterance:
    """A request on its way through the pipeline; each stage fills in its part.

    Times are ``time.monotonic()`` seconds, ``queued`` is a duration.

    Attributes:
        row: Its prompt is empty until ``with_voice`` where a reference has to be encoded first.
        script: The row's text; None only for rows that were made by hand.
        reference: The bytes of the recording to clone, until ``with_voice`` has its tokens.
        voice: What the recording was encoded to.
        cloned_at: When that was; 0 without a reference.
    """

    request: SynthesisRequest
    row: Row
    queued: float = 0.0
    warnings: list[str] = field(default_factory=list)
    script: Script | None = None
    reference: bytes | None = None
    voice: EncodedVoice | None = None
    claimed_at: float = field(default_factory=time.monotonic)
    cloned_at: float = 0.0
    wave: npt.NDArray[np.float32] | None = None
    vocoded_at: float = 0.0
    audio: bytes = b""
    done_at: float = 0.0
    error: str | None = None

    @property
    def id(self) -> str:
        return self.row.key


def make_utterance(speech: SpeechModel, job_id: str, request: SynthesisRequest, queued: float = 0.0) -> Utterance:
    """Normalise and tokenise a request and make its row; one with a reference still needs ``with_voice``.

    Raises:
        RequestError: The voice is unknown or has no transcript, or the model cannot say a text or use a
            reference.
    """
    _check_served(speech, request)
    stored = _stored(speech, request)
    spoken = speakable(request.text, speech.config.text)
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
    utterance = Utterance(request, Row(job_id, decoding), queued, warnings, script)
    if request.reference is not None:
        utterance.reference = base64.b64decode(request.reference, validate=True)
    elif stored is not None:
        _prompt(utterance, speech.layout, stored.global_tokens, stored.semantic_tokens)
    else:
        utterance.row.decoding = replace(decoding, prompt=script.prompt(speech.layout))
    return utterance


def with_voice(utterance: Utterance, speech: SpeechModel, voice: EncodedVoice) -> None:
    """Complete the row of an utterance with the tokens of its reference, in place, and let go of the bytes.

    Raises:
        RequestError: The reference has a transcript, but there are no semantic tokens to go with it.
        ValueError: The tokens do not fit the model's layout.
    """
    if utterance.script is not None and utterance.script.transcript and not voice.semantic:
        raise RequestError("reference: no semantic tokens; accepted: reference without reference_text")
    _prompt(utterance, speech.layout, voice.globals_, voice.semantic)
    utterance.voice = voice
    utterance.reference = None
    utterance.cloned_at = time.monotonic()


def kept_tokens(utterance: Utterance, sample_rate: int) -> VoiceTokens:
    """What it takes to keep the voice of a finished utterance.

    A reference keeps its own tokens and its transcript. Any other voice keeps the speech that it just made,
    with the request's text as transcript. The text is "" where it is not known to be what is spoken.
    """
    assert utterance.wave is not None
    row, request, voice = utterance.row, utterance.request, utterance.voice
    if voice is not None:
        semantic, text, seconds = voice.semantic, request.reference_text or "", voice.seconds
    else:
        semantic, seconds = row.decoding.semantic, len(utterance.wave) / sample_rate
        text = request.text if row.finished is FinishReason.EOS else ""
    return VoiceTokens(
        globals=row.decoding.globals_, semantic=semantic, text=text, seconds=seconds, sample_rate=sample_rate
    )


def _prompt(utterance: Utterance, layout: TokenLayout, globals_: Sequence[int], semantic: Sequence[int]) -> None:
    """Give a row that has not run its prompt."""
    assert utterance.script is not None
    prompt = utterance.script.prompt(layout, globals_, semantic)
    utterance.row.decoding = replace(utterance.row.decoding, prompt=prompt, voice=globals_)


def _check_served(speech: SpeechModel, request: SynthesisRequest) -> None:
    for name, reason in speech.refusals.items():
        if getattr(request, name) is not None:
            raise RequestError(f"{name}: {reason}")


def _stored(speech: SpeechModel, request: SynthesisRequest) -> Voice | None:
    if request.voice is None:
        return None
    try:
        return speech.voices.get(request.voice)
    except VoiceError as error:
        raise RequestError(f"voice: {error}") from error


def _transcript(speech: SpeechModel, request: SynthesisRequest, stored: Voice | None) -> Speakable | None:
    """The words of the recording that the row is to continue, as they are tokenised; None without one."""
    if request.reference_text is not None:
        return _speakable_as("reference_text", request.reference_text, speech.config.text)
    if stored is None or not request.use_transcript:
        return None
    _check_transcript(stored)
    return _speakable_as(f"use_transcript: voice {stored.id!r}", stored.prompt_text, speech.config.text)


def _check_transcript(voice: Voice) -> None:
    tokens, characters = len(voice.semantic_tokens), len(voice.prompt_text)
    if not tokens or not voice.prompt_text.strip():
        raise RequestError(
            f"use_transcript: voice {voice.id!r} has no transcript; accepted: a voice with prompt_text and "
            "semantic_tokens"
        )
    if tokens > MOST_REFERENCE_TOKENS or characters > MAX_REFERENCE_TEXT:
        raise RequestError(
            f"use_transcript: voice {voice.id!r} has {tokens} semantic tokens and {characters} characters of "
            f"prompt_text; accepted: up to {MOST_REFERENCE_TOKENS} and {MAX_REFERENCE_TEXT}"
        )


def _speakable_as(name: str, text: str, config: TextConfig) -> Speakable:
    """As ``speakable``, which speaks of ``text``, with messages about another field."""
    try:
        spoken = speakable(text, config)
    except RequestError as error:
        raise RequestError(name + str(error).removeprefix("text")) from None
    return Speakable(spoken.text, [name + warning.removeprefix("text") for warning in spoken.warnings])


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


def failure(row: Row) -> str | None:
    """Why a finished row has nothing to say, or None."""
    if row.finished is FinishReason.ERROR:
        return f"{MODEL_FAULT}it produced logits that are not finite; the row was ended"
    if row.finished is FinishReason.CANCELLED:
        return "cancelled on request"
    if not row.decoding.semantic:
        return f"{MODEL_FAULT}speech ended before its first token; another seed or text may help"
    return None


def make_result(utterance: Utterance, sample_rate: int) -> SynthesisResult:
    """Sum up a finished utterance."""
    assert utterance.wave is not None
    row, decoding, start = utterance.row, utterance.row.decoding, utterance.claimed_at
    seconds = len(utterance.wave) / sample_rate
    total = utterance.done_at - start
    return SynthesisResult(
        job_id=utterance.id,
        audio_key=audio_key(utterance.id),
        format=utterance.request.format,
        mode=utterance.request.mode,
        sample_rate=sample_rate,
        seconds=seconds,
        seed=decoding.seed,
        finish_reason=str(row.finished),
        tokens=TokenCounts(globals=len(decoding.globals_), semantic=len(decoding.semantic)),
        trace_sha256=_trace_digest(decoding),
        timings=Timings(
            queued=utterance.queued,
            clone=max(0.0, utterance.cloned_at - start),
            prefill=row.prefilled_at - row.started_at,
            decode=row.finished_at - row.prefilled_at,
            vocode=utterance.vocoded_at - row.finished_at,
            encode=utterance.done_at - utterance.vocoded_at,
            first_audio=total,
            total=total,
        ),
        mean_batch=row.mean_batch,
        rtf=total / seconds,
        warnings=utterance.warnings + _warnings(row, seconds),
        metadata=utterance.request.metadata,
    )


def _warnings(row: Row, seconds: float) -> list[str]:
    if row.finished is FinishReason.LENGTH:
        return [f"the audio was cut at {seconds:.2f} s: the model did not end by itself"]
    if row.finished is FinishReason.REPETITION:
        return ["the model got stuck on one token; the repetition was cut off"]
    return []


def _trace_digest(decoding: Decoding) -> str:
    """SHA-256 over the JSON of ``[globals, semantic]``: equal traces, equal digests, on any platform."""
    trace = json.dumps([decoding.globals_, decoding.semantic], separators=(",", ":"))
    return hashlib.sha256(trace.encode()).hexdigest()
