"""A loaded model directory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codec.bicodec import BiCodec
from codec.voice_encoder import VoiceEncoder
from model.native.forward import NativeRWKV7
from model.rwkv7 import RWKV7
from model.tokenizer import Encode
from sampler.layout import TokenLayout
from worker.speech.catalogue import VoiceCatalogue
from worker.speech.config import ModelConfig

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7


@dataclass(frozen=True)
class SpeechModel:
    """A loaded model directory.

    Attributes:
        voices: The model's own, and those that are kept in Redis.
        voice_encoder: None when no recording can be used.
        refusals: Fields of a request that the model cannot serve, with the reason and what is accepted.
        sha256: Of the language model's file and the codec's, hexadecimal.
    """

    config: ModelConfig
    layout: TokenLayout
    encode_text: Encode
    model: "RWKV7 | NativeRWKV7 | FastRWKV7"
    codec: BiCodec
    voices: VoiceCatalogue
    voice_encoder: VoiceEncoder | None = None
    refusals: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""
