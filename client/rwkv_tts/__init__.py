"""What a program needs to have text spoken by rwkv-tts workers: no torch, no model, no audio library."""

from rwkv_tts.aio import AsyncTTSClient as AsyncTTSClient
from rwkv_tts.audio_store import StoreError as StoreError
from rwkv_tts.client import TTSClient as TTSClient
from rwkv_tts.listening import AsyncSpeechStream as AsyncSpeechStream
from rwkv_tts.listening import SpeechStream as SpeechStream
from rwkv_tts.load import Busyness as Busyness
from rwkv_tts.load import QueueLoad as QueueLoad
from rwkv_tts.load import WorkerLoad as WorkerLoad
from rwkv_tts.progress import SpeechProgress as SpeechProgress
from rwkv_tts.refusal import Cause as Cause
from rwkv_tts.refusal import Refusal as Refusal
from rwkv_tts.refusal import RequestError as RequestError
from rwkv_tts.results import JobFailedError as JobFailedError
from rwkv_tts.results import Speech as Speech
from rwkv_tts.schema import SynthesisRequest as SynthesisRequest
from rwkv_tts.schema import SynthesisResult as SynthesisResult
from rwkv_tts.schema import parse_request as parse_request
from rwkv_tts.submission import QueueFullError as QueueFullError
from rwkv_tts.submission import UnconfirmedError as UnconfirmedError
from rwkv_tts.tuner import NoWorkerError as NoWorkerError
from rwkv_tts.tuner import Tuned as Tuned
from rwkv_tts.voice_store import VoiceStore as VoiceStore
from rwkv_tts.voices import Voice as Voice
from rwkv_tts.voices import VoiceError as VoiceError

__version__ = "0.1.0"
