"""The client where it was before it became a package of its own; new programs import ``rwkv_tts``."""

from rwkv_tts import (
    Busyness,
    JobFailedError,
    NoWorkerError,
    QueueFullError,
    QueueLoad,
    Speech,
    TTSClient,
    Tuned,
    Voice,
    VoiceError,
    VoiceStore,
    WorkerLoad,
)

__all__ = [
    "Busyness",
    "JobFailedError",
    "NoWorkerError",
    "QueueFullError",
    "QueueLoad",
    "Speech",
    "TTSClient",
    "Tuned",
    "Voice",
    "VoiceError",
    "VoiceStore",
    "WorkerLoad",
]
