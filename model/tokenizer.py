"""Text to token ids, numbered from 0: where the ids go in the model's vocabulary is the token layout's affair."""

from collections.abc import Callable
from functools import partial
from typing import Literal

TokenizerName = Literal["world", "bytes"]
Encode = Callable[[str], list[int]]

WORLD_TEXT_SIZE = 65531
"""World ids 0..65529 and the blank-line token 65530."""

BYTES_TEXT_SIZE = 256

_BLANK_LINE = 65530


def load_tokenizer(name: TokenizerName) -> tuple[Encode, int]:
    """Return the encoder and the number of ids that it uses.

    ``world`` is the RWKV World vocabulary (greedy longest byte match, every byte has a token, so any text has a
    tokenisation). ``bytes`` is plain UTF-8.
    """
    if name == "bytes":
        return _encode_bytes, BYTES_TEXT_SIZE
    from pyrwkv_tokenizer import RWKVTokenizer  # loads a vocabulary of 65 529 entries

    return partial(_encode_world, RWKVTokenizer().encode), WORLD_TEXT_SIZE


def _encode_bytes(text: str) -> list[int]:
    return list(text.encode())


def _encode_world(encode: Encode, text: str) -> list[int]:
    """The models were trained with a blank line as one added token, matched before the vocabulary's own."""
    first, *others = text.split("\n\n")
    ids = list(encode(first))
    for part in others:
        ids += [_BLANK_LINE, *encode(part)]
    return ids
