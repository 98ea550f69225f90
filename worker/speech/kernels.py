"""Where Triton keeps the kernels that it has compiled, and whether they can be loaded from there."""

import os
from pathlib import Path

from worker.speech.config import ModelError


def kernel_cache() -> Path:
    """Triton's own rule: ``TRITON_CACHE_DIR``, or a folder in ``TRITON_HOME`` or at home."""
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    return Path(os.environ.get("TRITON_CACHE_DIR") or Path(home, ".triton", "cache"))


def check_kernel_cache() -> None:
    """Refuse a cache from which nothing can be loaded, before compiling for it ends in a linker's message.

    Raises:
        ModelError: It is on a file system that is mounted noexec, as Docker mounts every tmpfs.
    """
    cache = kernel_cache()
    there = next(path for path in (cache, *cache.absolute().parents) if path.exists())
    if os.statvfs(there).f_flag & os.ST_NOEXEC:
        raise unusable_cache("it is on a file system mounted noexec, from which no compiled kernel can be loaded")


def unusable_cache(reason: str) -> ModelError:
    """What to tell of a cache that cannot be used."""
    return ModelError(
        f"engine 'cuda' cannot be used: Triton's cache {kernel_cache()}: {reason}; accepted: TRITON_CACHE_DIR, a "
        "folder that can be written and is mounted exec, or engine reference"
    )
