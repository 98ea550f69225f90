"""Models for the codec's tests: golden ones when they are there, a small random one always."""

import os
from pathlib import Path

import pytest

from codec.bicodec import BiCodec
from scripts.random_bicodec import SMALL_CONFIG, write_random_bicodec

GOLDEN_VARIABLE = "RWKV_TTS_GOLDEN"


@pytest.fixture(scope="session")
def golden() -> Path:
    """The directory of golden vectors."""
    beside_repository = Path(__file__).parents[3] / "shared" / "golden"
    directory = Path(os.environ.get(GOLDEN_VARIABLE, beside_repository))
    if not directory.is_dir():
        pytest.skip(f"no golden vectors: {directory} is not a directory; set {GOLDEN_VARIABLE}")
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model in the published format; do not change it."""
    directory = tmp_path_factory.mktemp("bicodec")
    write_random_bicodec(directory, SMALL_CONFIG, seed=1)
    return directory


@pytest.fixture(scope="session")
def codec(model_directory: Path) -> BiCodec:
    return BiCodec.load(model_directory, encoder=True)
