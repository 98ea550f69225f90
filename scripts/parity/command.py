"""Compare this implementation with directories of golden vectors made by independent ones.

    python scripts/parity [rwkv7|bicodec|bicodec-full|DIRECTORY]...
    python scripts/parity --engine cuda rwkv7

A kind stands for all directories of that kind in the folder that RWKV_TTS_GOLDEN names; without arguments, all
of them are compared. With ``--engine cuda`` RWKV-7 runs in the fast engine, with the tolerances of float16; other
directories as ever. Prints one JSON line for each directory; arguments that are files are passed over. Exits 0
when every array is within its tolerance, 1 when one is not, 2 when an argument is no directory of a known kind.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from parity import bicodec, rwkv7
from parity.report import ArrayError, Report

GOLDEN_VARIABLE = "RWKV_TTS_GOLDEN"
COMPARE: dict[str, Callable[[Path], Report]] = {
    "rwkv7": rwkv7.compare,
    "bicodec": bicodec.compare,
    "bicodec-full": bicodec.compare,
}


def kind_of(directory: Path) -> str | None:
    """The kind of golden directory, told from its files; None when it is of no known kind."""
    if _has_tokens(directory / rwkv7.GOLDEN_FILE):
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
        from parity.fast import compare as compare_kind  # needs Triton
    line: dict[str, Any] = {"name": directory.resolve().name, "kind": kind}
    try:
        report = compare_kind(directory)
    except (ValueError, RuntimeError, KeyError, IndexError, OSError, SafetensorError) as error:
        return line | {"arrays": {}, "error": f"{type(error).__name__}: {error}", "ok": False}
    line["arrays"] = {name: array_line(error) for name, error in report.arrays.items()}
    if report.not_compared:
        line["not_compared"] = report.not_compared
    return line | {"ok": report.ok}


def directories(names: Sequence[str]) -> list[Path]:
    """The directories that are named, and those of the kinds that are; files are passed over.

    Raises:
        ValueError: Kinds are asked for, and there is no folder to look in.
    """
    found = []
    for name in names or COMPARE:
        if name in COMPARE:
            found += [path for path in sorted(golden_folder().iterdir()) if kind_of(path) == name]
        elif not Path(name).is_file():
            found.append(Path(name))
    return found


def golden_folder() -> Path:
    folder = os.environ.get(GOLDEN_VARIABLE, "")
    if not folder or not Path(folder).is_dir():
        raise ValueError(
            f"{GOLDEN_VARIABLE}: {folder!r} is no directory; accepted: the folder of the golden vectors"
        )
    return Path(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python scripts/parity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", metavar="KIND|DIRECTORY")
    parser.add_argument("--engine", choices=("reference", "cuda"), default="reference")
    options = parser.parse_args(arguments)
    try:
        paths = directories(options.what)
    except ValueError as error:
        parser.error(str(error))
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
