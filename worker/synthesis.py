"""From a request to a row of the engine, and from a finished row to a result."""

import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from batching.row import Row
from sampler.attributes import ATTRIBUTES, Attributes
from sampler.decoding import (
    GLOBAL_SAMPLING,
    MAX_SEMANTIC_TOKENS,
    SEMANTIC_SAMPLING,
    Decoding,
    FinishReason,
    PhaseSampling,
    semantic_limit,
)
from sampler.layout import TokenLayout
from sampler.prompt import attribute_prompt, voice_prompt
from worker.directory import AttributeConfig, SpeechModel
from worker.keys import audio_key
from worker.schema import RequestError, SynthesisRequest, SynthesisResult, Timings, TokenCounts
from worker.text.speakable import speakable
from worker.voices import VoiceError

TOKENS_PER_SECOND = 50


@dataclass(eq=False)
class Utterance:
    """A request on its way through the pipeline; each stage fills in its part.

    Times are ``time.monotonic()`` seconds, ``queued`` is a duration.
    """

    request: SynthesisRequest
    row: Row
    queued: float = 0.0
    warnings: list[str] = field(default_factory=list)
    claimed_at: float = field(default_factory=time.monotonic)
    wave: npt.NDArray[np.float32] | None = None
    vocoded_at: float = 0.0
    audio: bytes = b""
    done_at: float = 0.0
    error: str | None = None

    @property
    def id(self) -> str:
        return self.row.key


def make_utterance(speech: SpeechModel, job_id: str, request: SynthesisRequest, queued: float = 0.0) -> Utterance:
    """Normalise and tokenise a request and make its row.

    Raises:
        RequestError: The voice is unknown, or the model cannot say the text.
    """
    spoken = speakable(request.text, speech.config.text)
    text_ids, warnings = speech.encode_text(spoken.text), list(spoken.warnings)
    voice: list[int] = []
    if request.voice is None:
        attributes, untrained = _trained(request.attributes(), speech.config.attributes)
        prompt = attribute_prompt(speech.layout, text_ids, attributes)
        warnings += untrained
    else:
        try:
            voice = speech.voices.get(request.voice).global_tokens
        except VoiceError as error:
            raise RequestError(f"voice: {error}") from error
        prompt = voice_prompt(speech.layout, text_ids, voice)
    decoding = Decoding(
        layout=speech.layout,
        prompt=prompt,
        voice=voice,
        seed=secrets.randbits(64) if request.seed is None else request.seed,
        limit=semantic_limit(spoken.text, _most_tokens(request)),
        global_sampling=_override(GLOBAL_SAMPLING, request, speech.layout),
        semantic_sampling=_override(SEMANTIC_SAMPLING, request, speech.layout),
    )
    return Utterance(request, Row(job_id, decoding), queued, warnings)


def _trained(wanted: Attributes, config: AttributeConfig | None) -> tuple[Attributes, list[str]]:
    """The attributes with trained values in place of those that the model never saw, and a warning for each."""
    if config is None:
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
        return "model: it produced logits that are not finite; the row was ended"
    if row.finished is FinishReason.CANCELLED:
        return "cancelled on request"
    if not row.decoding.semantic:
        return "model: speech ended before its first token; another seed or text may help"
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
        sample_rate=sample_rate,
        seconds=seconds,
        seed=decoding.seed,
        finish_reason=str(row.finished),
        tokens=TokenCounts(globals=len(decoding.globals_), semantic=len(decoding.semantic)),
        trace_sha256=_trace_digest(decoding),
        timings=Timings(
            queued=utterance.queued,
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
