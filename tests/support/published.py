"""Small random models in the formats, names and folders in which the real ones are published."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from make_random_model import Format, RandomModel, write_checkpoint, write_random_model

CARD = "---\nlicense: {}\nlanguage: [zh, en]\n---\n# A model card\n"
HF_CONFIG = {"architectures": ["RWKV7ForSpeech"], "model_type": "rwkv7", "hidden_size": 64, "vocab_size": 8193}
RESPARK = "rwkv7-0.4B-g1-respark-voice-tunable"
TRANSCRIPTS = "wav2vec2-large-xlsr-53"
ALONE = "rwkv7-0.1B-g1-respark-voice-tunable_ipa.pth"


def checkpoint(path: Path, kind: Format) -> Path:
    """A language model's file in a format, under a published name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = write_checkpoint(path.parent, RandomModel(layers=1, width=64, seed=1, format=kind, eos_logit=-30.0))
    return made.rename(path)


def respark_folder(folder: Path) -> Path:
    """The folder of a model in yueyulin/respark: Hugging Face's files."""
    checkpoint(folder / "model.safetensors", "fla")
    (folder / "config.json").write_text(json.dumps(HF_CONFIG))
    (folder / "modeling_rwkvspeech.py").write_text("raise SystemExit('code of a repository was run')")
    (folder / "README.md").write_text(CARD.format("apache-2.0"))
    return folder


def spark_tts(folder: Path) -> Path:
    """SparkAudio/Spark-TTS-0.5B: the codec, and another language model, which is not ours."""
    random = folder / "random"
    write_random_model(random, RandomModel(layers=1, width=64, tokenizer="bytes", eos_logit=-30.0))
    shutil.move(random / "bicodec", folder / "BiCodec")
    shutil.rmtree(random)
    (folder / "LLM").mkdir()
    save_file({"model.embed_tokens.weight": torch.zeros(4, 4)}, folder / "LLM" / "model.safetensors")
    (folder / TRANSCRIPTS).mkdir()
    (folder / TRANSCRIPTS / "config.json").write_text('{"model_type": "wav2vec2"}')
    (folder / TRANSCRIPTS / "pytorch_model.bin").write_bytes(b"a gigabyte")
    (folder / "README.md").write_text(CARD.format("cc-by-nc-sa-4.0"))
    return folder


def rust_checkout(folder: Path) -> Path:
    """rwkv-tts-rs with its models and voices."""
    checkpoint(folder / "assets/model/webrwkv.safetensors", "web-rwkv")
    for name in ("tokenizer.json", "BiCodecTokenize.onnx", "BiCodecDetokenize.onnx"):
        (folder / "assets/model" / name).write_bytes(b"{}")
    random = folder / "random"
    write_random_model(random, RandomModel(layers=1, width=64, eos_logit=-30.0))
    shutil.move(random / "voices", folder / "assets/raf")
    shutil.rmtree(random)
    return folder
