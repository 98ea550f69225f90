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
from worker.compute.contract import Compute
from worker.compute.local import LocalCompute
from worker.speech.catalogue import VoiceCatalogue
from worker.speech.config import ModelConfig

if TYPE_CHECKING:
    from model.fast.forward import FastRWKV7


@dataclass(frozen=True)
class SpeechModel:
    """A loaded model directory.

    Attributes:
        compute: The networks, wherever they are.
        voices: The model's own, and those that are kept in Redis.
        refusals: Fields of a request that the model cannot serve, with the reason and what is accepted.
        sha256: Of the language model's file and the codec's, hexadecimal.
    """

    config: ModelConfig
    layout: TokenLayout
    encode_text: Encode
    compute: Compute
    voices: VoiceCatalogue
    refusals: Mapping[str, str] = field(default_factory=dict)
    sha256: str = ""


@dataclass(frozen=True)
class LocalModel(SpeechModel):
    """One whose networks are in this process."""

    compute: LocalCompute

    @property
    def model(self) -> "RWKV7 | NativeRWKV7 | FastRWKV7":
        """The forward pass."""
        return self.compute.model

    @property
    def codec(self) -> BiCodec:
        """Makes waves."""
        return self.compute.codec

    @property
    def voice_encoder(self) -> VoiceEncoder | None:
        """None when no recording can be used."""
        return self.compute.voice_encoder
