"""From a finished utterance to what is told and kept of it."""

import time
from collections.abc import Iterator

from rwkv_tts.keys import audio_key, chunks_key
from rwkv_tts.progress import SpeechProgress
from rwkv_tts.schema import PartResult, SynthesisResult, Timings, TokenCounts
from rwkv_tts.voice_store import VoiceTokens
from sampler.decoding import FinishReason
from worker.speech.utterance import Account, PartAccount, Utterance

_MOST_SPOILED = 20
"""Parts of a text that warnings name."""


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
        begin, end = first.span
        text = request.text[begin:end] if first.row.finished is FinishReason.EOS else ""
    return VoiceTokens(
        globals=first.row.decoding.globals_, semantic=semantic, text=text, seconds=seconds, sample_rate=sample_rate
    )


def make_result(utterance: Utterance, sample_rate: int) -> SynthesisResult:
    """Sum up a finished utterance, whose waves have ``sample_rate`` Hz."""
    account, total = utterance.account, utterance.done_at - utterance.claimed_at
    assert account is not None
    return SynthesisResult(
        job_id=utterance.id,
        audio_key=(chunks_key if utterance.request.stream else audio_key)(utterance.id),
        format=utterance.request.format,
        mode=utterance.request.mode,
        sample_rate=utterance.request.sample_rate or sample_rate,
        seconds=account.seconds,
        seed=utterance.seed,
        finish_reason=str(account.finish),
        tokens=TokenCounts(globals=len(utterance.parts[0].row.decoding.globals_), semantic=account.semantic),
        trace_sha256=account.trace,
        timings=_timings(utterance, account, total),
        mean_batch=account.mean_batch,
        rtf=total / account.seconds,
        attempts=account.attempts,
        parts=_parts(account) if utterance.request.timestamps else None,
        warnings=[*utterance.warnings, *_warnings(account)],
        metadata=utterance.request.metadata,
    )


def progress_of(utterance: Utterance, seconds: float) -> SpeechProgress:
    """How far an utterance has come whose audio has so many seconds, at least some."""
    joined = utterance.joined
    return SpeechProgress(
        parts=joined,
        of=len(utterance.parts) if utterance.read else None,
        share=round(utterance.parts[joined - 1].span[1] / len(utterance.request.text), 4) if joined else 0.0,
        seconds=round(seconds, 2),
        rtf=round((time.monotonic() - utterance.claimed_at) / seconds, 4),
    )


def stages(utterance: Utterance) -> Iterator[tuple[str, float, float, dict[str, float]]]:
    """Where the time of an utterance that has ended went: name, first begin, last end, what was done meanwhile.

    Only of stages that it has come to; ``prefill`` is of its first part. Times are ``time.monotonic()`` seconds.
    """
    if not utterance.parts:
        return
    account, done, first = utterance.account, utterance.done_at, utterance.parts[0]
    row = first.row
    decoded_at = account.decoded_at if account else utterance.parts[-1].row.finished_at or done
    if utterance.cloned_at:
        yield "clone", utterance.claimed_at, utterance.cloned_at, {}
    if row.started_at:
        yield "prefill", row.started_at, row.prefilled_at or done, {"tokens": len(row.decoding.prompt)}
    if row.prefilled_at:
        yield "decode", row.prefilled_at, decoded_at, _decoded(utterance)
    if first.vocoding_at:
        seconds = {"audio_seconds": account.seconds} if account else {}
        yield "vocode", first.vocoding_at, account.vocoded_at if account else done, seconds
    if account:
        yield "encode", account.vocoded_at, done, {}


def _decoded(utterance: Utterance) -> dict[str, float]:
    account = utterance.account
    if account is None:
        return {"parts": len(utterance.parts)}
    return {
        "parts": len(account.parts),
        "tokens": account.semantic,
        "attempts": account.attempts,
        "mean_batch": account.mean_batch,
    }


def _timings(utterance: Utterance, account: Account, total: float) -> Timings:
    """Of the first part until it is prefilled, of the last one from then on."""
    first = utterance.parts[0].row
    return Timings(
        queued=utterance.queued,
        clone=max(0.0, utterance.cloned_at - utterance.claimed_at),
        prefill=first.prefilled_at - first.started_at,
        decode=account.decoded_at - first.prefilled_at,
        vocode=account.vocoded_at - account.decoded_at,
        encode=utterance.done_at - account.vocoded_at,
        first_audio=_first_audio(utterance, total),
        total=total,
        waits=utterance.listening.waits,
        waited=utterance.listening.waited,
    )


def _first_audio(utterance: Utterance, total: float) -> float:
    began_at = utterance.listening.began_at
    return began_at - utterance.claimed_at if began_at else total


def _parts(account: Account) -> list[PartResult]:
    return [
        PartResult(text=part.span, begin=part.begin, end=part.end, seed=part.seed, finish_reason=str(part.finish))
        for part in account.parts
    ]


def _warnings(account: Account) -> Iterator[str]:
    """What is wrong with the audio; of a long text, with which parts of it."""
    if len(account.parts) > 1:
        parts = account.parts[:-1] if account.cut else account.parts
        spoiled = [(part, fault) for part in parts if (fault := _fault(part)) is not None]
        for part, fault in spoiled[:_MOST_SPOILED]:
            yield "text: characters {} to {}: {}".format(*part.span, fault)
        if len(spoiled) > _MOST_SPOILED:
            yield f"text: {len(spoiled) - _MOST_SPOILED} further parts of it are spoiled"
    elif account.finish is FinishReason.LENGTH and not account.cut:
        yield f"the audio was cut at {account.seconds:.2f} s: the model did not end by itself"
    elif account.finish is FinishReason.REPETITION:
        yield "the model got stuck on one token; the repetition was cut off"
    if account.cut:
        yield f"the audio was cut at {account.seconds:.2f} s: max_seconds allows no more"


def _fault(part: PartAccount) -> str | None:
    """What is wrong with a part, or None."""
    if not part.tokens:
        return "not spoken: speech ended before its first token"
    if part.finish is FinishReason.LENGTH:
        return "cut off: the model did not end by itself"
    return "the model got stuck; the repetition was cut off" if part.finish is FinishReason.REPETITION else None
