"""Features and clips to tokens: properties that hold for any weights."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from codec.bicodec import BiCodec
from codec.config import MelConfig
from codec.layers import loaded
from codec.mel import MelSpectrogram
from random_bicodec import SMALL_CONFIG, write_random_bicodec


def draw_features(codec: BiCodec, lengths: list[int]) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(length, codec.config.encoder.input_channels, generator=rng) for length in lengths]


def draw_clips(rows: int, samples: int = 16000) -> Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(0))


# Semantic tokens


def test_ragged_features_equal_their_rows_alone(codec: BiCodec) -> None:
    features = draw_features(codec, [7, 40, 1])
    for row, ids in zip(features, codec.encode_semantic(features), strict=True):
        assert ids.shape == (len(row),)
        assert ids.dtype == torch.int64
        assert torch.equal(ids, codec.encode_semantic([row])[0])


@torch.inference_mode()
def test_ragged_vectors_equal_their_rows_alone(codec: BiCodec) -> None:
    features = draw_features(codec, [7, 40])
    encoder = loaded(codec.encoder)
    mask = torch.tensor([[1.0] * 7 + [0.0] * 33, [1.0] * 40]).unsqueeze(1)
    padded, alone = pad_sequence(features, batch_first=True), encoder(features[0][None])
    torch.testing.assert_close(encoder(padded, mask)[:1, :, :7], alone, atol=1e-5, rtol=0)
    assert (encoder(padded)[:1, :, :7] - alone).abs().max() > 0.01


@torch.inference_mode()
def test_semantic_ids_are_nearest_codes(codec: BiCodec) -> None:
    projected = torch.randn(1, 8, 50, generator=torch.Generator().manual_seed(0))
    queries = projected[0].T.double().numpy()
    codes = codec.quantizer.codebook.weight.double().numpy()
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    codes /= np.linalg.norm(codes, axis=1, keepdims=True)
    distances = ((queries[:, None] - codes[None]) ** 2).sum(axis=2)
    assert codec.quantizer.quantize(projected)[0].tolist() == distances.argmin(axis=1).tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[:0], r"features\[1\]: got shape \[0, 40\], expected \[T, 40\]"),
        (lambda x: x[:, 1:], r"features\[1\]: got shape \[3, 39\], expected \[T, 40\]"),
        (lambda x: x[0], r"features\[1\]: got shape \[40\]"),
        (lambda x: x.double(), r"features\[1\]: got torch.float64, expected torch.float32"),
        (lambda x: x.log(), r"features\[1\]: got values that are infinite or not a number"),
    ],
)
def test_bad_features(codec: BiCodec, change: Callable[[Tensor], Tensor], message: str) -> None:
    first, second = draw_features(codec, [2, 3])
    with pytest.raises(ValueError, match=message):
        codec.encode_semantic([first, change(second)])


def test_no_features(codec: BiCodec) -> None:
    with pytest.raises(ValueError, match="features: got no rows"):
        codec.encode_semantic([])


# Global tokens


def test_clips_of_a_batch_do_not_change_each_other(codec: BiCodec) -> None:
    clips = draw_clips(3)
    ids = codec.encode_globals(clips)
    assert ids.shape == (3, 32)
    assert ids.dtype == torch.int64
    alone = torch.cat([codec.encode_globals(clip[None]) for clip in clips])
    assert torch.equal(ids, alone)


def test_encoded_ids_decode(codec: BiCodec) -> None:
    semantic = codec.encode_semantic(draw_features(codec, [3]))
    (wave,) = codec.decode(semantic, codec.encode_globals(draw_clips(1)))
    assert wave.isfinite().all()


def test_scalar_quantiser_thresholds(codec: BiCodec) -> None:
    """The edges between the levels, from the equation of the bound: atanh((edge + 0.5) / 1.5015) - shift."""
    shift = np.arctanh(0.5 / 1.5015)
    edges = np.arctanh((np.array([-1.5, -0.5, 0.5]) + 0.5) / 1.5015) - shift
    values = torch.linspace(-3, 3, 600).reshape(1, 100, 6)
    digits = (values.unsqueeze(-1).numpy() > edges).sum(axis=-1)
    ids = (digits * 4 ** np.arange(6)).sum(axis=-1)
    assert codec.speaker_encoder.quantizer.quantize(values).tolist() == ids.tolist()


def test_scalar_dequantiser_reads_digits(codec: BiCodec) -> None:
    quantizer = codec.speaker_encoder.quantizer
    ids = torch.arange(codec.global_size)
    digits = np.array([[id_ // 4**place % 4 for place in range(6)] for id_ in range(4096)])
    torch.testing.assert_close(quantizer.codes(ids[None])[0], torch.from_numpy((digits - 2) / 2).float())


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        (torch.zeros(16000), r"clips: got shape \[16000\], expected \[B, N\] with N at least 513"),
        (torch.zeros(1, 512), r"clips: got shape \[1, 512\]"),
        (torch.zeros(1, 16000, dtype=torch.float64), "clips: got torch.float64, expected torch.float32"),
        (torch.full((1, 16000), torch.inf), "clips: got values that are infinite or not a number"),
    ],
)
def test_bad_clips(codec: BiCodec, clips: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        codec.encode_globals(clips)


def test_without_encoder(model_directory: Path) -> None:
    codec = BiCodec.load(model_directory)
    for encode in (
        lambda: codec.encode_globals(draw_clips(1)),
        lambda: codec.encode_semantic(draw_features(codec, [3])),
    ):
        with pytest.raises(RuntimeError, match="load it with encoder=True"):
            encode()


# The mel spectrogram, against its definition in numpy


def slaney_mel(hertz: float) -> float:
    return 3 * hertz / 200 if hertz < 1000 else 15 + 27 * np.log(hertz / 1000) / np.log(6.4)


def slaney_hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)


def mel_by_definition(wave: NDArray[np.float64], config: MelConfig) -> NDArray[np.float64]:
    """Mel frames [T, num_mels] in float64, one bin and one triangle at a time."""
    n_fft, hop, width = config.n_fft, config.hop_length, config.win_length
    padded = np.pad(wave, n_fft // 2, mode="reflect")
    window = np.zeros(n_fft)
    start = (n_fft - width) // 2
    window[start : start + width] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(width) / width)
    frames = [padded[t : t + n_fft] * window for t in range(0, len(padded) - n_fft + 1, hop)]
    spectrum = np.abs(np.fft.rfft(frames, axis=1))
    top = config.mel_fmax if config.mel_fmax is not None else config.sample_rate / 2
    points = np.linspace(slaney_mel(config.mel_fmin), slaney_mel(top), config.num_mels + 2)
    edges = [slaney_hertz(point) for point in points]
    bins = np.arange(n_fft // 2 + 1) * config.sample_rate / n_fft
    bands = [
        np.interp(bins, edges[band : band + 3], [0, 2 / (edges[band + 2] - edges[band]), 0])
        for band in range(config.num_mels)
    ]
    return spectrum @ np.array(bands).T


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("mels", "top"), [(128, None), (40, 6000.0)])
def test_mel(mels: int, top: float | None, log: bool) -> None:
    config = MelConfig(
        sample_rate=16000,
        n_fft=1024,
        win_length=640,
        hop_length=320,
        mel_fmin=10,
        mel_fmax=top,
        num_mels=mels,
        log=log,
    )
    waves = draw_clips(2, samples=9700)
    waves[0, :4000] = 0  # silence: the floor of the logarithm
    found = MelSpectrogram(config)(waves)
    expected = np.array([mel_by_definition(wave.double().numpy(), config) for wave in waves])
    if log:
        expected = (np.log(np.maximum(expected, 1e-4)) + 4) / 3
    assert found.shape == (2, 31, mels)
    np.testing.assert_allclose(found, expected, atol=1e-4 if log else 1e-5, rtol=0)


# Models without wav2vec 2.0: mel frames, one for each token, are the semantic encoder's features


@pytest.fixture(scope="module")
def mel_codec(tmp_path_factory: pytest.TempPathFactory) -> BiCodec:
    config = deepcopy(dict(SMALL_CONFIG))
    sections = config["audio_tokenizer"]
    sections["mel_params"]["log"] = True
    sections["encoder"] |= {"input_channels": sections["mel_params"]["num_mels"], "sample_ratios": []}
    sections["prenet"]["sample_ratios"] = []
    directory = tmp_path_factory.mktemp("mel")
    write_random_bicodec(directory, config, seed=2)
    return BiCodec.load(directory, encoder=True)


def test_mel_features_are_one_frame_a_token_and_the_same_alone(mel_codec: BiCodec) -> None:
    waves = [draw_clips(1, samples)[0] for samples in (16000, 9700, 640)]
    features = mel_codec.mel_features(waves)
    assert [len(row) for row in features] == [50, 30, 2]
    for wave, row in zip(waves, features, strict=True):
        torch.testing.assert_close(row, mel_codec.mel_features([wave])[0], atol=0, rtol=0)
    ids = mel_codec.encode_semantic(features)
    assert [len(row) for row in ids] == [50, 30, 2]
    assert len(torch.unique(torch.cat(ids))) > 10


def test_mel_features_of_too_short_a_wave(mel_codec: BiCodec) -> None:
    with pytest.raises(ValueError, match=r"waves\[1\]: got shape \[512\], expected \[N\] with N at least 513"):
        mel_codec.mel_features([torch.zeros(1000), torch.zeros(512)])


def test_without_sampling_blocks_there_are_no_such_weights(mel_codec: BiCodec) -> None:
    assert not [name for name in mel_codec.state_dict() if "downsample" in name]
