"""Opens a model directory whose networks another process loads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwkv_tts.voice_store import VoiceStore
from worker.compute.contract import ComputeLostError
from worker.compute.process import NotLoadedError, start
from worker.speech.config import ModelError
from worker.speech.loading import read_host_side
from worker.speech.model import SpeechModel

_MODULE = "worker.computing"


def open_apart(directory: Path, told: Mapping[str, Any], kept_voices: VoiceStore | None = None) -> SpeechModel:
    """Have another process load a model directory onto a device.

    Args:
        directory: The model directory.
        told: The other arguments of ``open_model``, and how that process logs.
        kept_voices: The voices that are kept in Redis.

    Raises:
        ModelError: As of ``open_model``, or that process has died of it.
    """
    host = read_host_side(directory, kept_voices)
    try:
        compute, more = start(_MODULE, {"directory": str(directory.absolute()), **told})
    except (NotLoadedError, ComputeLostError) as error:
        raise ModelError(str(error)) from error
    return SpeechModel(
        host.config, host.layout, host.encode_text, compute, host.voices, more["refusals"], more["sha256"]
    )
