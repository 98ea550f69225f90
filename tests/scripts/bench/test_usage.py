"""What nvidia-smi says, read without a GPU."""

import pytest

from bench.usage import gpu_index, gpu_usage


def test_gpu_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = gpu_usage(["1000, 40", "3000, 60", "30"])
    assert gpu is not None
    assert gpu.percent == 50
    assert gpu.memory_peak_mb == pytest.approx(3000 * 2**20 / 1e6)
    assert gpu_usage([]) is None
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu_index(device) for device in ("cpu", "cuda", "cuda:1")] == [None, "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert gpu_index("cuda:1") == "GPU-7"
