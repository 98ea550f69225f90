"""A result of speech that nobody has made."""

from typing import Any

from rwkv_tts.schema import SynthesisResult, Timings, TokenCounts

_TIMES = ("queued", "clone", "prefill", "decode", "vocode", "encode", "first_audio", "total")


def result_of(job_id: str, **fields: Any) -> SynthesisResult:
    """With these fields in place of what does not matter."""
    made: dict[str, Any] = {
        "job_id": job_id,
        "audio_key": "k",
        "format": "pcm",
        "mode": "attributes",
        "sample_rate": 16_000,
        "seconds": 1.0,
        "seed": 0,
        "finish_reason": "eos",
        "tokens": TokenCounts(globals=32, semantic=50),
        "trace_sha256": "",
        "timings": Timings.model_validate(dict.fromkeys(_TIMES, 0)),
        "mean_batch": 1.0,
        "rtf": 0.1,
        "warnings": [],
        "metadata": {},
    }
    return SynthesisResult(**made | fields)
