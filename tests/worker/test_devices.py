"""Names of devices: what an operator writes, and what tells the workers on them apart."""

import pytest
from pydantic import ValidationError

from worker.devices import alone, labels
from worker.settings import Settings


@pytest.mark.parametrize(
    ("written", "devices"),
    [
        ("", ()),
        ("0, 1", ("cuda:0", "cuda:1")),
        ("cuda:3,00", ("cuda:3", "cuda:0")),
        ("cpu,cpu,0", ("cpu", "cpu", "cuda:0")),
        ("all", ("all",)),
    ],
)
def test_a_number_is_that_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, written: str, devices: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RWKV_TTS_DEVICES", written)
    assert Settings().devices == devices
    assert Settings(device="cpu").devices == devices


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"devices": "nonsense"}, "'nonsense'; accepted: numbers of GPUs"),
        ({"devices": "0,-1"}, "'-1'; accepted: "),
        ({"devices": "٣"}, "accepted: numbers of GPUs"),
        ({"devices": "all,0"}, "accepted: all alone"),
        ({"devices": "0,1", "device": "cuda:1"}, "given beside device cuda:1; accepted: one of the two"),
        ({"devices": "cpu,cpu", "device": "cuda"}, "given beside device cuda; accepted: one of the two"),
        ({"devices": "0,1", "name": "n" * 61}, "accepted: a name of up to 60 characters"),
    ],
)
def test_what_is_not_accepted_is_named(settings: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(**settings)  # type: ignore[arg-type]
    [error] = caught.value.errors()
    assert error["loc"] == ("devices",)
    assert reason in error["msg"]


def test_any_gpu_may_be_the_device_beside_gpus() -> None:
    """Images say so, and whoever runs them says which."""
    assert Settings(device="cuda", devices=("0", "1")).devices == ("cuda:0", "cuda:1")


@pytest.mark.parametrize(
    ("device", "visible", "own"),
    [
        ("cpu", None, ("cpu", {})),
        ("cuda:1", None, ("cuda", {"CUDA_VISIBLE_DEVICES": "1"})),
        ("cuda:1", "4,GPU-8932f937", ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"})),
        ("cuda:2", "4,5", ("cuda", {"CUDA_VISIBLE_DEVICES": ""})),  # none; the worker says so
    ],
)
def test_a_process_sees_its_own_gpu_alone(
    device: str, visible: str | None, own: tuple[str, dict[str, str]]
) -> None:
    assert alone(device, visible) == own


def test_equal_devices_are_told_apart() -> None:
    assert labels(["cuda:0", "cuda:1"]) == ["cuda:0", "cuda:1"]
    assert labels(["cpu", "cuda:0", "cpu"]) == ["cpu/0", "cuda:0", "cpu/1"]
