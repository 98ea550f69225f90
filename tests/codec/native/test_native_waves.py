"""The compiled wave generator beside plain torch, and that its samples are the same however one cuts."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from codec.bicodec import BiCodec
from codec.config import WaveGeneratorConfig
from codec.native import selftest, structures
from codec.native.wavegen import NativeWaveGenerator
from codec.wavegen import WaveGenerator
from codec.windows import WindowedWaveGenerator
from compiled import COMPILED
from native import library
from native.library import UnavailableError
from random_bicodec import SMALL_CONFIG, write_random_bicodec

WIDE = WaveGeneratorConfig(input_channel=24, channels=192, rates=(5, 3, 2), kernel_sizes=(11, 3, 6))
"""Panels of 64, 32 and 16 columns; taps that are fewer than the rate, as many and more."""
PUBLISHED_RATES = WaveGeneratorConfig(
    input_channel=40, channels=256, rates=(8, 5, 4, 2), kernel_sizes=(16, 11, 8, 4)
)

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing was written for this processor")


def generator(config: WaveGeneratorConfig) -> WaveGenerator:
    torch.manual_seed(5)
    made = WaveGenerator(config).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if name.endswith("alpha"):
            parameter.uniform_(0.2, 20)
    made.load_state_dict(made.state_dict())  # prepares what follows from alpha
    return made


def compiled(config: WaveGeneratorConfig, made: WaveGenerator, vectors: str) -> NativeWaveGenerator:
    try:
        return NativeWaveGenerator(made, config, vectors=vectors)
    except UnavailableError as error:
        pytest.skip(str(error))


def frames(config: WaveGeneratorConfig, count: int) -> Tensor:
    return 3 * torch.randn(config.input_channel, count, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("vectors", COMPILED)
@pytest.mark.parametrize("config", [WIDE, PUBLISHED_RATES], ids=["wide", "published rates"])
def test_it_is_the_plain_one(config: WaveGeneratorConfig, vectors: str) -> None:
    made = generator(config)
    plain, native = WindowedWaveGenerator(made, config), compiled(config, made, vectors)
    for count in (1, 2, 7, 60, 300):
        given = frames(config, count)
        found, right = native(given, 0, count), plain(given, 0, count)
        assert found.shape == right.shape
        assert right.std() > 0.01
        assert 20 * float((right.norm() / (found - right).norm()).log10()) > 90


@pytest.mark.parametrize("vectors", COMPILED)
def test_any_cut_gives_the_same_bits(vectors: str) -> None:
    made = generator(PUBLISHED_RATES)
    native = compiled(PUBLISHED_RATES, made, vectors)
    given = frames(PUBLISHED_RATES, 600)  # more than a window
    whole = native(given, 0, 600)
    cuts = [0, 1, 2, 30, 31, 200, 457, 600]
    parts = [native(given, begin, end) for begin, end in pairwise(cuts)]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("vectors", COMPILED)
@pytest.mark.parametrize("count", [1, 60, 300])
def test_any_number_of_threads_gives_the_same_bits(vectors: str, count: int) -> None:
    native = compiled(PUBLISHED_RATES, generator(PUBLISHED_RATES), vectors)
    given = frames(PUBLISHED_RATES, count)
    whole, part = native(given, 0, count), native(given, count // 2, count)
    for threads in (2, 3, 5):
        native.use(threads)
        assert torch.equal(native(given, 0, count, alone=True), whole)
        assert torch.equal(native(given, count // 2, count, alone=True), part)


def test_sizes_that_it_was_not_written_for_are_refused() -> None:
    steep = WaveGeneratorConfig(input_channel=8, channels=32, rates=(20,), kernel_sizes=(40,))
    with pytest.raises(UnavailableError, match=r"^it takes rates up to 16$"):
        NativeWaveGenerator(generator(steep), steep)
    wide = WaveGeneratorConfig(input_channel=8, channels=32, rates=(2,), kernel_sizes=(60,))
    with pytest.raises(UnavailableError, match=r"^it takes kernels up to 27 times their rate$"):
        NativeWaveGenerator(generator(wide), wide)


def test_python_and_c_speak_of_the_same_sizes() -> None:
    source = (Path(library.__file__).parent / "waves.c").read_text()
    said = {name: int(number) for name, number in re.findall(r"#define (\w+) (\d+)", source)}
    assert said == {"HALO": structures.HALO, "CELLS": structures.CELLS, "MOST_RATE": structures.MOST_RATE}
    assert f"CELLS / channels < {structures.LEAST_CHUNK} ? {structures.LEAST_CHUNK} :" in source


@pytest.fixture
def one(tmp_path: Path) -> BiCodec:
    write_random_bicodec(tmp_path, SMALL_CONFIG, seed=1)
    codec = BiCodec.load(tmp_path)
    compiled(codec.config.decoder, codec.decoder, COMPILED[0])
    return codec


def test_a_codec_adopts_it_and_lets_its_own_weights_go(one: BiCodec) -> None:
    tokens, voice = torch.arange(50), torch.arange(one.globals_per_voice)[None]
    right = one.decode([tokens], voice)[0]
    selftest.adopt(one)
    assert all(parameter.is_meta for parameter in one.decoder.parameters())
    torch.testing.assert_close(one.decode([tokens], voice)[0], right, atol=1e-5, rtol=0)


def test_what_is_wrong_is_not_adopted(one: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    right, before = [parameter.clone() for parameter in one.decoder.parameters()], one.make_waves

    def other(made: WaveGenerator, config: WaveGeneratorConfig) -> NativeWaveGenerator:
        wrong = generator(config)
        return NativeWaveGenerator(wrong, config)

    monkeypatch.setattr(selftest, "NativeWaveGenerator", other)
    with pytest.raises(UnavailableError, match="off plain torch's on this machine"):
        selftest.adopt(one)
    assert one.make_waves is before
    assert all(torch.equal(p, kept) for p, kept in zip(one.decoder.parameters(), right, strict=True))
