"""Tokens to waveforms: against golden vectors, and properties that hold for any weights."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from codec.bicodec import CONFIG_FILE, WEIGHTS_FILE, BiCodec
from codec.config import BiCodecConfig, read_config
from codec.layers import length_mask, zero_padding
from random_bicodec import (
    PUBLISHED_CONFIG,
    SMALL_CONFIG,
    complete_layout,
    write_random_bicodec,
)

TOLERANCE = 1e-4
ROUNDING = 1e-5
"""How far two orders of float32 operations put a waveform of size 0.1 apart; a leak is far larger."""
SIZES = (150, 40, 7, 1)


def draw(codec: BiCodec, lengths: list[int], seed: int = 0) -> tuple[list[Tensor], Tensor]:
    rng = torch.Generator().manual_seed(seed)
    semantic = [torch.randint(0, codec.semantic_size, (length,), generator=rng) for length in lengths]
    shape = (len(lengths), codec.globals_per_voice)
    return semantic, torch.randint(0, codec.global_size, shape, generator=rng)


def time_convolutions(codec: BiCodec) -> dict[str, nn.Module]:
    """The decoder's convolutions whose output depends on more than one frame."""
    parts = nn.ModuleDict({"prenet": codec.prenet, "decoder": codec.decoder})
    kinds = (nn.Conv1d, nn.ConvTranspose1d)
    return {
        name: module
        for name, module in parts.named_modules()
        if isinstance(module, kinds) and module.kernel_size[0] > 1
    }


def published_config(tmp_path: Path) -> BiCodecConfig:
    path = tmp_path / CONFIG_FILE
    path.write_text(yaml.safe_dump(dict(PUBLISHED_CONFIG)))
    return read_config(path)


# Golden vectors


@pytest.fixture(scope="module")
def small(golden: Path) -> BiCodec:
    return BiCodec.load(golden / "bicodec_small_a" / "BiCodec")


@pytest.fixture(scope="module")
def arrays(golden: Path) -> Mapping[str, Tensor]:
    with np.load(golden / "bicodec_small_a" / "golden.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def golden_tokens(arrays: Mapping[str, Tensor], case: str) -> tuple[list[Tensor], Tensor]:
    return list(arrays[f"{case}.semantic_ids"].long()), arrays[f"{case}.global_ids"][:, 0].long()


@pytest.mark.parametrize("size", SIZES)
def test_golden_rows_decoded_alone(small: BiCodec, arrays: Mapping[str, Tensor], size: int) -> None:
    (wave,) = small.decode(*golden_tokens(arrays, f"dec{size}"))
    torch.testing.assert_close(wave, arrays[f"dec{size}.wav"][0, 0], atol=TOLERANCE, rtol=0)


def test_golden_rows_decoded_as_one_ragged_batch(small: BiCodec, arrays: Mapping[str, Tensor]) -> None:
    tokens = [golden_tokens(arrays, f"dec{size}") for size in SIZES]
    waves = small.decode([row for rows, _ in tokens for row in rows], torch.cat([voice for _, voice in tokens]))
    for size, wave in zip(SIZES, waves, strict=True):
        torch.testing.assert_close(wave, arrays[f"dec{size}.wav"][0, 0], atol=TOLERANCE, rtol=0)


def test_golden_batch_of_three_voices(small: BiCodec, arrays: Mapping[str, Tensor]) -> None:
    waves = torch.stack(small.decode(*golden_tokens(arrays, "batch")))
    torch.testing.assert_close(waves, arrays["batch.wav"][:, 0], atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_golden_stages(small: BiCodec, arrays: Mapping[str, Tensor]) -> None:
    (semantic,), globals_ = golden_tokens(arrays, "dec7")
    vectors, voice = small.dequantize(semantic[None]), small.speaker_vector(globals_)
    frames = small.frames(semantic[None], globals_)
    found = {"z_q": vectors, "d_vector": voice, "prenet": small.prenet(vectors, voice), "wavegen_in": frames}
    for index, stage in enumerate(small.decoder.model[:-1]):
        frames = stage(frames)
        found[f"wavegen_{index}"] = frames
    for name, value in found.items():
        torch.testing.assert_close(value, arrays[f"dec7.{name}"], atol=TOLERANCE, rtol=0, msg=name)


# Rows of unequal length


@pytest.mark.parametrize("lengths", [[1, 7, 40], [40, 1, 7], [3, 3], [5]])
def test_ragged_batch_equals_its_rows_alone(codec: BiCodec, lengths: list[int]) -> None:
    semantic, globals_ = draw(codec, lengths)
    waves = codec.decode(semantic, globals_)
    for row, (wave, length) in enumerate(zip(waves, lengths, strict=True)):
        (alone,) = codec.decode(semantic[row : row + 1], globals_[row : row + 1])
        assert wave.shape == (length * codec.hop,)
        assert wave.dtype == torch.float32
        torch.testing.assert_close(wave, alone, atol=ROUNDING, rtol=0)


@torch.inference_mode()
def test_padding_without_mask_would_be_wrong(codec: BiCodec) -> None:
    semantic, globals_ = draw(codec, [7, 40])
    padded = codec.decoder(codec.frames(pad_sequence(semantic, batch_first=True), globals_))
    (alone,) = codec.decode(semantic[:1], globals_[:1])
    assert (padded[0, 0, : len(alone)] - alone).abs().max() > 1000 * ROUNDING


@torch.inference_mode()
def test_every_convolution_over_time_needs_its_mask(codec: BiCodec) -> None:
    semantic, globals_ = draw(codec, [7, 40])
    (alone,) = codec.decode(semantic[:1], globals_[:1])
    for name, module in time_convolutions(codec).items():
        hook = module.register_forward_pre_hook(lambda _, arguments: arguments[:1])
        leaky = codec.decode(semantic, globals_)[0]
        hook.remove()
        if name != "decoder.model.0":  # the windows that it gets are padded with zeros
            assert (leaky - alone).abs().max() > ROUNDING, name


def test_number_of_masked_convolutions(tmp_path: Path) -> None:
    with torch.device("meta"):
        published = BiCodec(published_config(tmp_path), encoder=False)
    assert len(time_convolutions(published)) == 37


def test_equal_lengths_need_no_mask() -> None:
    assert length_mask([4, 4], torch.device("cpu")) is None


def test_zero_padding_at_a_higher_rate() -> None:
    mask = length_mask([1, 2], torch.device("cpu"))
    zeroed = zero_padding(torch.ones(2, 1, 6), mask)
    assert zeroed[:, 0].tolist() == [[1, 1, 1, 0, 0, 0], [1] * 6]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu(codec: BiCodec, model_directory: Path) -> None:
    semantic, globals_ = draw(codec, [1, 7, 40])
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        waves = BiCodec.load(model_directory, "cuda").decode(semantic, globals_)
    for wave, expected in zip(waves, codec.decode(semantic, globals_), strict=True):
        torch.testing.assert_close(wave.cpu(), expected, atol=TOLERANCE, rtol=0)


# Bad input


def decode_changed(
    codec: BiCodec,
    change_semantic: Callable[[Tensor], Tensor] = lambda ids: ids,
    change_globals: Callable[[Tensor], Tensor] = lambda ids: ids,
) -> None:
    (first, second), globals_ = draw(codec, [3, 4])
    codec.decode([first, change_semantic(second)], change_globals(globals_))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids[:0], r"semantic\[1\]: got shape \[0\], expected \[T\] with T at least 1"),
        (lambda ids: ids[None], r"semantic\[1\]: got shape \[1, 4\]"),
        (lambda ids: ids.int(), r"semantic\[1\]: got torch.int32, expected torch.int64"),
        (lambda ids: ids - 8192, r"semantic\[1\]: got ids from -\d+ to -\d+, expected 0 to 8191"),
        (lambda ids: ids.fill_(8192), r"semantic\[1\]: got ids from 8192 to 8192, expected 0 to 8191"),
    ],
)
def test_bad_semantic(codec: BiCodec, change: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_changed(codec, change_semantic=change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ids: ids[:1], r"globals_: got shape \[1, 32\], expected \[2, 32\]"),
        (lambda ids: ids[:, :31], r"globals_: got shape \[2, 31\], expected \[2, 32\]"),
        (lambda ids: ids[:, None], r"globals_: got shape \[2, 1, 32\]"),
        (lambda ids: ids.float(), r"globals_: got torch.float32, expected torch.int64"),
        (lambda ids: ids + 4096, r"globals_: got ids from \d+ to \d+, expected 0 to 4095"),
        (lambda ids: -1 - ids, r"globals_: got ids from -\d+ to -\d+, expected 0 to 4095"),
    ],
)
def test_bad_globals(codec: BiCodec, change: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_changed(codec, change_globals=change)


def test_no_rows(codec: BiCodec) -> None:
    with pytest.raises(ValueError, match="semantic: got no rows"):
        codec.decode([], torch.zeros(0, 32, dtype=torch.int64))


# The files


@pytest.fixture
def copy(model_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_directory, tmp_path / "copy"))


def rewrite(directory: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(directory / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, directory / WEIGHTS_FILE)


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("decoder.model.0.weight_g", "64, 1, 1"),
        ("decoder.model.1.block.1.weight_v", "64, 32, 16"),
        ("prenet.vocos_backbone.norm.scale.weight", "32, 40"),
        ("quantizer.codebook.weight", "8192, 8"),
    ],
)
def test_missing_key(copy: Path, key: str, shape: str) -> None:
    rewrite(copy, lambda tensors: tensors.pop(key))
    with pytest.raises(ValueError, match=rf"{key}: missing, expected shape \[{shape}\]"):
        BiCodec.load(copy)


def test_wrong_shape(copy: Path) -> None:
    rewrite(copy, lambda tensors: tensors.update({"prenet.linear.bias": torch.zeros(41)}))
    with pytest.raises(ValueError, match=r"prenet.linear.bias: found shape \[41\], expected \[40\]"):
        BiCodec.load(copy)


@pytest.mark.parametrize("key", ["discriminator.bias", "prenet.bias", "decoder.model.0.weight"])
def test_unknown_key(copy: Path, key: str) -> None:
    rewrite(copy, lambda tensors: tensors.update({key: torch.zeros(3)}))
    with pytest.raises(ValueError, match=rf"{key}: unknown, found shape \[3\]"):
        BiCodec.load(copy)


def test_unknown_key_of_a_part_that_is_not_loaded(copy: Path) -> None:
    rewrite(copy, lambda tensors: tensors.update({"encoder.bias": torch.zeros(3)}))
    BiCodec.load(copy)
    with pytest.raises(ValueError, match=r"encoder\.bias: unknown"):
        BiCodec.load(copy, encoder=True)


def test_several_problems_are_counted(copy: Path) -> None:
    rewrite(copy, lambda tensors: [tensors.pop(key) for key in list(tensors) if key.startswith("prenet.linear.")])
    with pytest.raises(ValueError, match=r"prenet.linear.weight: missing.* \(and 1 more\)"):
        BiCodec.load(copy)


def test_parts_that_are_not_loaded_may_be_missing(codec: BiCodec, copy: Path) -> None:
    parts = ("encoder.", "postnet.", "speaker_encoder.speaker_encoder.", "quantizer.in_project.")
    rewrite(copy, lambda tensors: [tensors.pop(key) for key in list(tensors) if key.startswith(parts)])
    tokens = draw(codec, [4])
    torch.testing.assert_close(BiCodec.load(copy).decode(*tokens), codec.decode(*tokens), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int64, torch.uint32])
def test_counters_of_any_type(copy: Path, dtype: torch.dtype) -> None:
    def change(tensors: dict[str, Tensor]) -> None:
        counters = [key for key in tensors if key.endswith("num_batches_tracked")]
        assert len(counters) == 29
        tensors.update({key: tensors[key].to(dtype) for key in counters})

    rewrite(copy, change)
    BiCodec.load(copy, encoder=True)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=CONFIG_FILE):
        BiCodec.load(tmp_path)


def test_truncated_weights(copy: Path) -> None:
    path = copy / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{WEIGHTS_FILE}: not a readable safetensors file"):
        BiCodec.load(copy)


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("prenet", "sample_ratios", [1, 2], "prenet.sample_ratios"),
        ("prenet", "out_channels", 41, "prenet.out_channels is 41 but speaker_encoder.out_dim is 40"),
        ("decoder", "kernel_sizes", [16, 11, 8, 5], "kernel size 5 must be its rate, 2, plus an even number"),
        ("decoder", "kernel_sizes", [16, 11, 8], "rates has 4 entries but kernel_sizes 3"),
        ("decoder", "channels", 72, "channels 72 cannot be halved 4 times"),
        ("quantizer", "codebook_size", None, "quantizer.codebook_size"),
        ("postnet", "use_tanh_at_final", True, "postnet.use_tanh_at_final"),
    ],
)
def test_bad_config(copy: Path, section: str, key: str, value: object, message: str) -> None:
    path = copy / CONFIG_FILE
    config = yaml.safe_load(path.read_text())
    config["audio_tokenizer"][section][key] = value
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match=rf"(?s){CONFIG_FILE}.*{message}"):
        BiCodec.load(copy)


def test_config_that_is_not_yaml(copy: Path) -> None:
    (copy / CONFIG_FILE).write_text("audio_tokenizer: [")
    with pytest.raises(ValueError, match=CONFIG_FILE):
        BiCodec.load(copy)


def test_sizes_come_from_the_config(codec: BiCodec) -> None:
    assert (codec.sample_rate, codec.hop) == (16000, 320)
    assert (codec.semantic_size, codec.global_size, codec.globals_per_voice) == (8192, 4096, 32)


# The writer of random models


@pytest.mark.parametrize("seed", range(3))
def test_random_models_are_audible(tmp_path: Path, seed: int) -> None:
    write_random_bicodec(tmp_path, SMALL_CONFIG, seed)
    codec = BiCodec.load(tmp_path)
    (wave,) = codec.decode(*draw(codec, [100]))
    assert 0.05 < wave.square().mean().sqrt() < 0.2


def test_equal_seeds_write_equal_models(model_directory: Path, tmp_path: Path) -> None:
    write_random_bicodec(tmp_path, SMALL_CONFIG, seed=1)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == (model_directory / WEIGHTS_FILE).read_bytes()
    assert load_file(tmp_path / WEIGHTS_FILE)["prenet.linear.bias"].dtype == torch.float32


def test_published_layout(golden: Path, tmp_path: Path) -> None:
    lines = (golden / "bicodec_full_hash" / "keys.tsv").read_text().splitlines()
    expected = {name: tuple(yaml.safe_load(shape)) for name, shape in (line.split("\t")[:2] for line in lines)}
    layout = complete_layout(published_config(tmp_path))
    assert layout == expected
    assert list(layout) == sorted(layout)
    assert len(layout) == 840
