"""The Redis keys and names that producers, workers and tools share."""

FUNCTION = "worker.tasks.synthesize"
"""The one function that a job may name."""

ARGUMENT = "request"
"""The keyword argument that holds the request."""

AUDIO_PREFIX = "rwkv-tts:audio:"
"""``rwkv-tts:audio:<job id>``: the bytes of the finished audio, with the result's time to live."""


def audio_key(job_id: str) -> str:
    return AUDIO_PREFIX + job_id
