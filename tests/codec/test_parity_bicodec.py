"""Golden vectors of every stage, and that the comparison can fail."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from parity.bicodec import array_error, compare, tolerance
from parity.report import ArrayError


def test_small_golden(golden: Path) -> None:
    report = compare(golden / "bicodec_small_a")
    assert {name: error for name, error in report.arrays.items() if not error.ok} == {}
    assert len(report.arrays) > 40
    without_transformers = [f"enc.w2v_hidden_{layer}" for layer in (11, 14, 16)] + ["enc.feat"]
    assert list(report.not_compared) == ([] if find_spec("transformers") else without_transformers)


@pytest.mark.slow
def test_full_size_golden(golden: Path) -> None:
    report = compare(golden / "bicodec_full_hash")
    assert {name: error for name, error in report.arrays.items() if not error.ok} == {}
    assert len(report.arrays) == 12
    assert report.not_compared == {}


def test_wrong_golden_arrays_are_found(golden: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(golden / "bicodec_small_a", tmp_path / "copy"))
    copy.chmod(0o755)
    with np.load(copy / "golden.npz") as file:
        arrays = dict(file)
    arrays["enc.global_ids"] = arrays["enc.global_ids"] + np.eye(1, 32, dtype=np.int32)
    arrays["dec7.wav"] = arrays["dec7.wav"] + np.float32(2e-4)
    arrays["enc.z"] = arrays["enc.z"][:, :, 1:]
    arrays["enc.new_stage"] = arrays["enc.z"]
    (copy / "golden.npz").unlink()
    np.savez(copy / "golden.npz", **arrays)
    report = compare(copy)
    assert not report.ok
    wrong = {name for name, error in report.arrays.items() if not error.ok}
    assert wrong == {"enc.global_ids", "enc.recon_wav", "enc.forward_pred_feat", "enc.forward_d_vector"} | {
        "dec7.wav",
        "ragged.dec7.wav",
        "enc.z",
    }
    assert "enc.new_stage" in report.not_compared


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("enc.semantic_ids", 0.0),
        ("global_ids_enc", 0.0),
        ("enc.mel", 1e-5),
        ("mel_first4_last4", 1e-5),
        ("enc.input_values", 1e-6),
        ("vol.quiet.out", 1e-12),
        ("dec7.wav", 1e-4),
    ],
)
def test_tolerance(name: str, expected: float) -> None:
    assert tolerance(name) == expected


def test_numbers_that_are_not_numbers_are_errors() -> None:
    assert not array_error("x", torch.tensor([torch.nan]), torch.tensor([0.0])).ok
    assert not array_error("x", torch.zeros(2), torch.zeros(2, 1)).ok
    assert ArrayError(max_abs=1e-4, rms=0.0, tolerance=1e-4).ok


def test_neither_kind_of_directory(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found neither golden.npz nor expected.npz"):
        compare(tmp_path)
