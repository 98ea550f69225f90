"""Compare this implementation with directories of golden vectors made by independent ones.

    python scripts/parity.py ../shared/golden/*
    python scripts/parity.py --engine cuda ../shared/golden/rwkv7_*

With ``--engine cuda`` RWKV-7 runs in the fast engine, with the tolerances of float16; other directories as ever.
Prints one JSON line for each directory; arguments that are files are passed over. Exits 0 when every array is
within its tolerance, 1 when one is not, and 2 when an argument is no directory of a known kind.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

import parity_bicodec
import parity_rwkv7
from parity_report import ArrayError, Report

COMPARE: dict[str, Callable[[Path], Report]] = {
    "rwkv7": parity_rwkv7.compare,
    "bicodec": parity_bicodec.compare,
    "bicodec-full": parity_bicodec.compare,
}


def kind_of(directory: Path) -> str | None:
    """The kind of golden directory, told from its files; None when it is of no known kind."""
    if _has_tokens(directory / parity_rwkv7.GOLDEN_FILE):
        return "rwkv7"
    if (directory / "golden.npz").is_file():
        return "bicodec"
    if (directory / "expected.npz").is_file() and (directory / "keys.tsv").is_file():
        return "bicodec-full"
    return None


def _has_tokens(path: Path) -> bool:
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return "tokens" in set(file.keys())
    except SafetensorError:
        return False


def array_line(error: ArrayError) -> dict[str, Any]:
    """JSON has no infinity: null is a distance that is no number, such as that of unequal shapes."""
    distances = {"max": error.max_abs, "rms": error.rms}
    return {
        **{name: value if math.isfinite(value) else None for name, value in distances.items()},
        "tolerance": error.tolerance,
        "ok": error.ok,
        "bit_equal": error.max_abs == 0,
    }


def compare(directory: Path, kind: str, fast: bool = False) -> dict[str, Any]:
    """The line for one directory; what cannot be loaded is a line with the error."""
    compare_kind = COMPARE[kind]
    if fast and kind == "rwkv7":
        from parity_fast import compare as compare_kind  # needs Triton
    line: dict[str, Any] = {"name": directory.resolve().name, "kind": kind}
    try:
        report = compare_kind(directory)
    except (ValueError, RuntimeError, KeyError, IndexError, OSError, SafetensorError) as error:
        return line | {"arrays": {}, "error": f"{type(error).__name__}: {error}", "ok": False}
    line["arrays"] = {name: array_line(error) for name, error in report.arrays.items()}
    if report.not_compared:
        line["not_compared"] = report.not_compared
    return line | {"ok": report.ok}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="+", type=Path)
    parser.add_argument("--engine", choices=("reference", "cuda"), default="reference")
    options = parser.parse_args(arguments)
    paths = [path for path in options.directory if not path.is_file()]
    status = 0 if paths else 2
    for path in paths:
        kind = kind_of(path)
        if kind is None:
            print(f"error: {path}: not a directory of golden vectors of a known kind", file=sys.stderr)
            status = 2
            continue
        line = compare(path, kind, fast=options.engine == "cuda")
        print(json.dumps(line, allow_nan=False), flush=True)
        status = max(status, 0 if line["ok"] else 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
