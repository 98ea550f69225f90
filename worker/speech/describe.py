"""What a model directory holds, for people."""

from pathlib import Path

from rwkv_tts.attributes import ATTRIBUTES
from worker.speech.config import AttributeConfig
from worker.speech.loading import open_model
from worker.text.speakable import TextConfig


def describe(directory: Path) -> dict[str, str]:
    """What a model directory holds, as lines for people.

    Raises:
        ModelError: Something in it is missing, or its parts do not fit together.
    """
    speech = open_model(directory)
    config, sizes, codec = speech.config, speech.model.sizes, speech.codec
    return {
        "name": config.name,
        "trained": "yes" if config.trained else "no: random weights, noise instead of speech",
        "licence": config.licence,
        "provenance": config.provenance,
        "rwkv-7": f"{sizes.layers} layers x {sizes.width}, {speech.model.parameters / 1e6:.1f} M parameters",
        "engine": speech.model.description,
        "state": f"{speech.model.state(1).nbytes() / 2**20:.2f} MiB for each row",
        "vocabulary": f"{config.tokens.tokenizer} text, {sizes.vocabulary} in, {sizes.head_rows} out",
        "codec": f"{config.codec}, {codec.sample_rate} Hz, {codec.sample_rate / codec.hop:g} tokens a second",
        "text": _text_line(config.text),
        "attributes": _attributes_line(config.attributes),
        "voices": ", ".join(voice.id for voice in speech.voices) or "none",
        "cloning": "; ".join(f"{name}: {reason}" for name, reason in speech.refusals.items()) or "yes",
    }


def _text_line(text: TextConfig) -> str:
    kind = "as it comes" if text.normalizer == "none" else f"{text.normalizer}, numbers and symbols become words"
    return kind if text.longest is None else f"{kind}; trained on up to {text.longest} characters"


def _attributes_line(attributes: AttributeConfig | None) -> str:
    if attributes is None:
        return "all"
    return "; ".join(f"{name} {', '.join(attributes.trained(name))}" for name in ATTRIBUTES)
