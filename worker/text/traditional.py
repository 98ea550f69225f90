"""Traditional ideographs as simplified ones: OpenCC, which knows in which words one folds otherwise."""

from functools import cache
from importlib.util import find_spec
from typing import Any


def obstacle() -> str | None:
    """Why traditional text cannot be folded, or None."""
    return None if find_spec("opencc") else "the package opencc is missing: pip install 'rwkv-tts-worker[chinese]'"


def simplified(text: str) -> str:
    """The text with simplified ideographs; everything else stays."""
    folded: str = _converter().convert(text.encode(errors="ignore").decode())  # without lone surrogates
    return folded


@cache
def _converter() -> Any:
    """Loaded once, and read only from then on, so that all threads may share it."""
    from opencc import OpenCC  # an extra

    return OpenCC("t2s")
