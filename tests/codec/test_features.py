"""wav2vec 2.0 features; most of it needs transformers, which is an optional dependency."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from codec.features import SemanticFeatures, standardize
from wav2vec2 import random_wav2vec2

SAMPLES = (5000, 1000, 400)


def draw_waves() -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(samples, generator=rng) for samples in SAMPLES]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model of the published structure."""
    path = tmp_path_factory.mktemp("wav2vec2")
    random_wav2vec2(width=16).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def extractor(directory: Path) -> SemanticFeatures:
    return SemanticFeatures.load(directory)


def test_frames_of_each_row(extractor: SemanticFeatures) -> None:
    features = extractor(draw_waves())
    assert [tuple(row.shape) for row in features] == [((samples - 80) // 320, 16) for samples in SAMPLES]
    assert all(row.dtype == torch.float32 for row in features)


def test_ragged_batch_equals_its_rows_alone(extractor: SemanticFeatures) -> None:
    waves = draw_waves()
    for wave, row in zip(waves, extractor(waves), strict=True):
        torch.testing.assert_close(row, extractor([wave])[0], atol=1e-5, rtol=0)


def test_only_the_layers_needed_are_loaded(extractor: SemanticFeatures) -> None:
    assert len(extractor.model.encoder.layers) == 17


def test_too_short(extractor: SemanticFeatures) -> None:
    with pytest.raises(ValueError, match=r"waves\[1\]: got 399 samples, expected at least 400"):
        extractor([torch.zeros(400), torch.zeros(399)])


def test_no_waves(extractor: SemanticFeatures) -> None:
    with pytest.raises(ValueError, match="waves: got no rows"):
        extractor([])


def test_missing_weights(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    weights = load_file(directory / "model.safetensors")
    weights.pop("encoder.layers.3.attention.q_proj.weight")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"encoder.layers.3.attention.q_proj.weight: missing"):
        SemanticFeatures.load(tmp_path)


def test_without_transformers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'rwkv-tts-worker\[clone\]'"):
        SemanticFeatures.load(tmp_path)


def test_standardize() -> None:
    values = standardize(0.3 + draw_waves()[0])
    assert values.dtype == torch.float32
    assert values.mean().item() == pytest.approx(0, abs=1e-6)
    assert values.square().mean().item() == pytest.approx(1, abs=1e-4)


def test_standardize_silence() -> None:
    assert standardize(torch.full((500,), 0.1)).abs().max() < 1e-6
