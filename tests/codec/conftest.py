"""A small random BiCodec for the codec's tests."""

from pathlib import Path

import pytest

from codec.bicodec import BiCodec
from random_bicodec import SMALL_CONFIG, write_random_bicodec


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random model in the published format; do not change it."""
    directory = tmp_path_factory.mktemp("bicodec")
    write_random_bicodec(directory, SMALL_CONFIG, seed=1)
    return directory


@pytest.fixture(scope="session")
def codec(model_directory: Path) -> BiCodec:
    return BiCodec.load(model_directory, encoder=True)
