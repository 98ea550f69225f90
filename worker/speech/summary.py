"""From a finished utterance to what is told and kept of it."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from batching.row import Row
from rwkv_tts.keys import audio_key
from rwkv_tts.schema import SynthesisResult, Timings, TokenCounts
from rwkv_tts.voice_store import VoiceTokens
from sampler.decoding import FinishReason
from worker.speech.utterance import Utterance


def kept_tokens(utterance: Utterance, sample_rate: int) -> VoiceTokens:
    """What it takes to keep the voice of a finished utterance.

    A recording keeps its own tokens and its transcript. Any other voice keeps the speech of its first part, with
    the request's text as transcript. The text is "" where it is not known to be what is spoken.
    """
    request, voice, first = utterance.request, utterance.voice, utterance.parts[0]
    if voice is not None:
        semantic, text, seconds = voice.semantic, request.reference_text or "", voice.seconds
    else:
        assert first.wave is not None
        semantic, seconds = first.row.decoding.semantic, len(first.wave) / sample_rate
        whole = len(utterance.parts) == 1 and first.row.finished is FinishReason.EOS
        text = request.text if whole else ""
    return VoiceTokens(
        globals=first.row.decoding.globals_, semantic=semantic, text=text, seconds=seconds, sample_rate=sample_rate
    )


def make_result(utterance: Utterance, sample_rate: int) -> SynthesisResult:
    """Sum up a finished utterance."""
    rows, total = [part.row for part in utterance.parts], utterance.done_at - utterance.claimed_at
    seconds = sum(map(len, utterance.waves())) / sample_rate
    globals_ = rows[0].decoding.globals_
    semantic = [token for row in rows for token in row.decoding.semantic]
    return SynthesisResult(
        job_id=utterance.id,
        audio_key=audio_key(utterance.id),
        format=utterance.request.format,
        mode=utterance.request.mode,
        sample_rate=sample_rate,
        seconds=seconds,
        seed=rows[0].decoding.seed,
        finish_reason=str(_finish(rows)),
        tokens=TokenCounts(globals=len(globals_), semantic=len(semantic)),
        trace_sha256=_digest(globals_, semantic),
        timings=_timings(utterance, total),
        mean_batch=sum(row.batch_total for row in rows) / max(1, sum(row.steps for row in rows)),
        rtf=total / seconds,
        warnings=[*utterance.warnings, *_warnings(rows, seconds)],
        metadata=utterance.request.metadata,
    )


def _timings(utterance: Utterance, total: float) -> Timings:
    """Of the first part until it is prefilled, of the last one from then on."""
    rows = [part.row for part in utterance.parts]
    prefilled, decoded = rows[0].prefilled_at, max(row.finished_at for row in rows)
    vocoded = max(part.vocoded_at for part in utterance.parts)
    return Timings(
        queued=utterance.queued,
        clone=max(0.0, utterance.cloned_at - utterance.claimed_at),
        prefill=prefilled - rows[0].started_at,
        decode=decoded - prefilled,
        vocode=vocoded - decoded,
        encode=utterance.done_at - vocoded,
        first_audio=total,
        total=total,
    )


def _finish(rows: Sequence[Row]) -> FinishReason | None:
    """The first reason that is not the end of the speech, if a row has one."""
    return next((row.finished for row in rows if row.finished is not FinishReason.EOS), FinishReason.EOS)


def _warnings(rows: Sequence[Row], seconds: float) -> Iterator[str]:
    reasons = {row.finished for row in rows}
    if FinishReason.LENGTH in reasons:
        yield f"the audio was cut at {seconds:.2f} s: the model did not end by itself"
    if FinishReason.REPETITION in reasons:
        yield "the model got stuck on one token; the repetition was cut off"


def _digest(globals_: Sequence[int], semantic: Sequence[int]) -> str:
    """SHA-256 over the JSON of ``[globals, semantic]``: equal traces, equal digests, on any platform."""
    trace = json.dumps([globals_, semantic], separators=(",", ":"))
    return hashlib.sha256(trace.encode()).hexdigest()
