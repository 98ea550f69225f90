"""How the texts of a request are to be read: as its model needs it, unless the request says otherwise."""

from rwkv_tts.refusal import invalid
from rwkv_tts.schema import Language, SynthesisRequest
from worker.text.auto import is_chinese
from worker.text.speakable import Normalizer, TextConfig

_LOOKED_AT = 4000
"""Characters that tell the language of a text."""

_SPOKEN: dict[Normalizer, tuple[Language, str]] = {"english": ("en", "English"), "chinese": ("zh", "Chinese")}


def wording(config: TextConfig, request: SynthesisRequest) -> TextConfig:
    """What the model needs of a text, with what the request asks for.

    Raises:
        RequestError: The model's normalizer is for another language.
    """
    normalizer = _normalizer(config, request)
    only, name = _SPOKEN.get(normalizer, (request.language, ""))
    if request.language not in ("auto", only):
        raise invalid(
            "language", f"{request.language!r}, but this model reads texts as {name}; accepted: auto, {only}"
        )
    return config.model_copy(update={"normalizer": normalizer, "language": _language(config, request)})


def _normalizer(config: TextConfig, request: SynthesisRequest) -> Normalizer:
    if request.normalize is False:
        return "none"
    return "auto" if request.normalize and config.normalizer == "none" else config.normalizer


def _language(config: TextConfig, request: SynthesisRequest) -> Language:
    """Of the parts that do not tell: as the request says, else the model, else the whole text."""
    told = next((language for language in (request.language, config.language) if language != "auto"), None)
    return told or ("zh" if is_chinese(request.text[:_LOOKED_AT]) else "auto")
