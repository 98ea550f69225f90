"""The last stage: gather the trained parts into a model directory that the worker opens."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from string import Template

import torch

from codec.bicodec import BiCodec
from codec.clip import Audio, normalize_volume, voice_clip
from rwkv_tts.voices import dump_raf
from train_demo_voice.speakers import PITCHES, SPEAKERS, SPEEDS, Speaker
from train_demo_voice.teacher import render
from worker.speech.config import AttributeConfig, ModelConfig, TokenConfig, write_config
from worker.text.speakable import TextConfig

NAME = "demo-voice"
LICENCE = "Apache-2.0"
PROVENANCE = (
    "trained from nothing by scripts/train_demo_voice of rwkv-tts-worker, on speech that flite 2.2 (BSD licence) "
    "synthesised with its voices slt, awb and rms from texts of the project's own making"
)
CLIP_TEXT = "The boy was there when the sun rose, and he watched the small ships come home to the quiet harbour."
"""What every stored voice says in its reference clip."""
CREATED_AT = "2026-11-23T00:00:00.000000000Z"
LONGEST_TEXT = 400
LOOKAHEAD = 18
"""Tokens; streamed samples are those of the whole within 89 dB."""
README = Path(__file__).with_name("MODEL_CARD.md")


def write_model(work: Path, out: Path) -> None:
    """Write ``out`` from the stages' exports in ``work``.

    Raises FileNotFoundError when a stage has not run.
    """
    (out / "bicodec").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(work / "language" / "rwkv7.safetensors", out / "rwkv7.safetensors")
    for name in ("config.yaml", "model.safetensors"):
        shutil.copyfile(work / "codec" / "bicodec" / name, out / "bicodec" / name)
    write_config(out, model_config())
    codec = BiCodec.load(out / "bicodec", encoder=True)
    write_voices(codec, out / "voices")
    card = Template(README.read_text(encoding="utf-8"))
    (out / "README.md").write_text(card.substitute(licence=LICENCE, provenance=PROVENANCE), encoding="utf-8")


def model_config() -> ModelConfig:
    return ModelConfig(
        name=NAME,
        tokens=TokenConfig(semantic_size=1024, global_size=1024, globals_per_voice=32, tokenizer="bytes"),
        features="mel",
        lookahead=LOOKAHEAD,
        text=TextConfig(normalizer="english", longest=LONGEST_TEXT),
        attributes=AttributeConfig(
            age=_distinct(speaker.age for speaker in SPEAKERS),
            gender=_distinct(speaker.gender for speaker in SPEAKERS),
            emotion=("neutral",),
            pitch=tuple(name for name, _, _ in PITCHES),
            speed=tuple(name for name, _, _ in SPEEDS),
        ),
        licence=LICENCE,
        provenance=PROVENANCE,
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def write_voices(codec: BiCodec, directory: Path) -> None:
    """Write every speaker as ``NAME.raf.json``."""
    directory.mkdir(exist_ok=True)
    for speaker in SPEAKERS:
        audio, _ = render(CLIP_TEXT, speaker, PITCHES[1][1], SPEEDS[2][1])
        (directory / f"{speaker.name}.raf.json").write_text(_raf(codec, speaker, audio), encoding="utf-8")


def _raf(codec: BiCodec, speaker: Speaker, audio: Audio) -> str:
    wave = normalize_volume(audio)
    clip = voice_clip(wave, codec.sample_rate, codec.hop)
    features = codec.mel_features([torch.from_numpy(wave).float()])
    return dump_raf(
        {
            "id": speaker.name,
            "name": f"{speaker.name.capitalize()}, {speaker.gender}, {speaker.age}",
            "prompt_text": CLIP_TEXT,
            "created_at": CREATED_AT,
            "global_tokens": codec.encode_globals(torch.from_numpy(clip).float()[None])[0].tolist(),
            "semantic_tokens": codec.encode_semantic(features)[0].tolist(),
            "audio_duration": len(wave) / codec.sample_rate,
            "sample_rate": codec.sample_rate,
        }
    )
