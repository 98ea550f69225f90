"""Text ids: the World vocabulary, its blank line, and that no text is anything but text."""

import ast
from pathlib import Path

import pyrwkv_tokenizer
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.tokenizer import BYTES_TEXT_SIZE, WORLD_TEXT_SIZE, Encode, load_tokenizer
from sampler.layout import TokenLayout

BLANK_LINE = 65530


@pytest.fixture(scope="module")
def world() -> Encode:
    return load_tokenizer("world")[0]


@pytest.fixture(scope="module")
def vocabulary() -> dict[int, bytes]:
    """The bytes of every id, read from the published list by itself."""
    path = Path(pyrwkv_tokenizer.__file__).with_name("rwkv_vocab_v20230424.txt")
    tokens: dict[int, bytes] = {BLANK_LINE: b"\n\n"}
    for line in path.read_text(encoding="utf-8").splitlines():
        number, rest = line.split(" ", 1)
        token = ast.literal_eval(rest.rsplit(" ", 1)[0])
        tokens[int(number)] = token.encode() if isinstance(token, str) else token
    return tokens


def decode(ids: list[int], vocabulary: dict[int, bytes]) -> str:
    return b"".join(vocabulary[i] for i in ids).decode()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a", [98]),
        ("A", [66]),
        (" ", [33]),
        ("\n", [11]),
        ("你", [10464]),
        ("。", [10080]),
        ("hello world", [34550, 40213]),
        ("你好，世界", [22756 - 12292, 23977 - 12292, 31429 - 12292, 22559 - 12292, 26902 - 12292]),
        ("", []),
    ],
)
def test_published_ids(world: Encode, text: str, ids: list[int]) -> None:
    assert world(text) == ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("\n\n", [BLANK_LINE]),
        ("a\n\na", [98, BLANK_LINE, 98]),
        ("\n\n\n", [BLANK_LINE, 11]),
        ("\n\n\n\n", [BLANK_LINE, BLANK_LINE]),
    ],
)
def test_a_blank_line_is_the_added_token(world: Encode, text: str, ids: list[int]) -> None:
    assert world(text) == ids


@pytest.mark.parametrize("text", ["😀", "毖", "👩\u200d🚀", "한글", "กขค"])
def test_rare_characters_fall_back_to_bytes(world: Encode, vocabulary: dict[int, bytes], text: str) -> None:
    assert world(text)
    assert decode(world(text), vocabulary) == text


@pytest.mark.parametrize(
    "text",
    ["<|spct_48|>", "SPCT_48", "<|semantic_token_5>", "<|tag_2|>", "<|pad_0|>", "<|semantic_token_eos|>"],
)
def test_markup_is_plain_text(world: Encode, vocabulary: dict[int, bytes], text: str) -> None:
    ids = world(text)
    assert len(ids) > 1
    assert BLANK_LINE not in ids
    assert decode(ids, vocabulary) == text


pieces = st.sampled_from(["\n", "\n\n", "<|spct_48|>", "SPCT_48", "<|semantic_token_5>", "hello", "世界", "😀"])
texts = st.lists(st.text(max_size=20) | pieces).map("".join)


@given(texts)
def test_any_text_is_text_and_comes_back(world: Encode, vocabulary: dict[int, bytes], text: str) -> None:
    layout = TokenLayout(text_size=WORLD_TEXT_SIZE)
    ids = world(text)
    assert all(layout.text_offset <= layout.text_offset + i < layout.control_offset for i in ids)
    assert decode(ids, vocabulary) == text


@given(texts)
def test_the_longest_token_wins(world: Encode, vocabulary: dict[int, bytes], text: str) -> None:
    numbers = {token: i for i, token in vocabulary.items() if i != BLANK_LINE}
    expected: list[int] = []
    for index, part in enumerate(text.split("\n\n")):
        expected += [BLANK_LINE] if index else []
        rest = part.encode()
        while rest:
            size = next(n for n in range(min(len(rest), 128), 0, -1) if rest[:n] in numbers)
            expected.append(numbers[rest[:size]])
            rest = rest[size:]
    assert world(text) == expected


@given(st.text())
def test_bytes(text: str) -> None:
    encode, size = load_tokenizer("bytes")
    assert size == BYTES_TEXT_SIZE
    assert bytes(encode(text)).decode() == text
