"""What messages and pages tell people to install is there to be installed."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("client", "gateway", "sampler", "model", "codec", "batching", "worker", "scripts")
DISTRIBUTIONS = {"rwkv-tts-worker": ROOT, "rwkv-tts-client": ROOT / "client", "rwkv-tts-gateway": ROOT / "gateway"}
_NAMED = re.compile(r"\b(rwkv-tts-\w+)\[([\w,-]+)\]")
_EXTRA = re.compile(r"\bextra [`'\"]+([\w-]+)[`'\"]")
_INSTALL = re.compile(r"pip install (?:-[\w-]+ )*['\"]?([A-Za-z][\w.-]*)")


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the product, docstrings included, and every page; with the name of its file."""
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield path.name, node.value
    for path in (*ROOT.glob("README*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("client/*.md")):
        yield path.name, path.read_text(encoding="utf-8")


def project(distribution: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = tomllib.loads(
        (DISTRIBUTIONS[distribution] / "pyproject.toml").read_text(encoding="utf-8")
    )["project"]
    return found


EXTRAS = {name: project(name)["optional-dependencies"] for name in DISTRIBUTIONS}


def test_every_extra_that_is_named_is_one() -> None:
    wrong = set()
    count = 0
    for file, text in texts():
        for distribution, extras in _NAMED.findall(text):
            count += 1
            wrong |= {
                (file, distribution, extra) for extra in extras.split(",") if extra not in EXTRAS[distribution]
            }
        for extra in _EXTRA.findall(text):
            count += 1
            if not any(extra in extras for extras in EXTRAS.values()):
                wrong.add((file, "", extra))
    assert wrong == set()
    assert count > 15  # the patterns find what is written


def test_every_package_to_install_is_ours_or_a_requirement() -> None:
    required = set(DISTRIBUTIONS)
    for name in DISTRIBUTIONS:
        lines = [*project(name)["dependencies"], *(line for extra in EXTRAS[name].values() for line in extra)]
        required |= {re.split(r"[^\w.-]", line)[0].lower() for line in lines}
    told = {(file, package) for file, text in texts() for package in _INSTALL.findall(text)}
    assert {(file, package) for file, package in told if package.lower() not in required} == set()
