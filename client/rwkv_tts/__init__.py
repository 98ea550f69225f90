"""What a program needs to have text spoken by rwkv-tts workers: no torch, no model, no audio library."""

from rwkv_tts.aio import AsyncTTSClient
from rwkv_tts.client import TTSClient
from rwkv_tts.load import Busyness, QueueLoad, WorkerLoad
from rwkv_tts.refusal import Cause, Refusal, RequestError
from rwkv_tts.results import JobFailedError, Speech
from rwkv_tts.schema import SynthesisRequest, SynthesisResult
from rwkv_tts.submission import QueueFullError
from rwkv_tts.tuner import NoWorkerError, Tuned
from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import Voice, VoiceError

__all__ = [
    "AsyncTTSClient",
    "Busyness",
    "Cause",
    "JobFailedError",
    "NoWorkerError",
    "QueueFullError",
    "QueueLoad",
    "Refusal",
    "RequestError",
    "Speech",
    "SynthesisRequest",
    "SynthesisResult",
    "TTSClient",
    "Tuned",
    "Voice",
    "VoiceError",
    "VoiceStore",
    "WorkerLoad",
]
