"""The arrows between the rooms: who may know whom, without a circle, and no class that does everything."""

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "rwkv_tts": ROOT / "client" / "rwkv_tts",
    "gateway": ROOT / "gateway",
    **{name: ROOT / name for name in ("native", "sampler", "model", "codec", "batching", "worker")},
}
WORKER_ROOMS = ("broker", "text", "delivery", "compute", "speech", "ops", "cli")
CORE = {"native", "sampler", "model", "codec", "batching"}

MAY_IMPORT: dict[str, set[str]] = {
    "rwkv_tts": set(),
    "gateway": {"rwkv_tts"},
    "native": set(),
    "sampler": {"rwkv_tts"},
    "model": {"native"},
    "codec": {"native"},
    "batching": {"sampler", "model"},
    "worker.broker": {"rwkv_tts"},
    "worker.text": set(),
    "worker.delivery": {"rwkv_tts", "codec"},
    "worker.compute": {*CORE},
    "worker.speech": {*CORE, "rwkv_tts", "worker.text", "worker.delivery", "worker.compute"},
    "worker.ops": {"rwkv_tts", "sampler", "batching", "worker.broker", "worker.delivery", "worker.compute"},
    "worker": {*CORE, "rwkv_tts", *(f"worker.{room}" for room in WORKER_ROOMS if room != "cli")},
    "worker.cli": {
        *CORE,
        "rwkv_tts",
        "gateway",
        "worker",
        *(f"worker.{room}" for room in WORKER_ROOMS if room != "cli"),
    },
}
ONLY_OF = {
    ("sampler", "rwkv_tts"): {"rwkv_tts.attributes"},
    ("worker.broker", "rwkv_tts"): {
        "rwkv_tts.keys",
        "rwkv_tts.refusal",
        "rwkv_tts.connection",
        "rwkv_tts.pickles",
    },
}
"""Modules to which an arrow is limited: a broker of any jobs knows nothing of speech."""

CLIENT_NEEDS = {"redis", "rq", "pydantic", "pydantic_core", "rwkv_tts"}
CLIENT_EXTRAS = {"obstore", "opentelemetry"}
"""Imported where they are needed, and told of where they are missing."""

GATEWAY_NEEDS = {
    "redis",
    "rq",
    "pydantic",
    "pydantic_settings",
    "starlette",
    "uvicorn",
    "wyoming",
    "prometheus_client",
}
MOST_LINES, MOST_METHODS = 200, 20

Module = tuple[str, ast.Module]


def modules() -> Iterator[Module]:
    """Every module of the product, by name."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join([package, *(part for part in parts if part != "__init__")])
            yield name, ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules that are imported anywhere, also inside functions; names that are modules count as such."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inner if name in MODULES]
            yield from found or [node.module]


def room(module: str) -> str:
    package, _, rest = module.partition(".")
    inner = rest.partition(".")[0]
    return f"worker.{inner}" if package == "worker" and inner in WORKER_ROOMS else package


def arrows() -> set[tuple[str, str]]:
    """All imports of one of our modules by another."""
    ours = {
        (name, target) for name, tree in MODULES.items() for target in imported(tree) if room(target) in MAY_IMPORT
    }
    return {(name, target) for name, target in ours if name != target}


def test_every_room_is_in_the_contract() -> None:
    assert {room(name) for name in MODULES} == set(MAY_IMPORT)
    assert set(WORKER_ROOMS) == {
        path.name for path in (ROOT / "worker").iterdir() if (path / "__init__.py").exists()
    }


def test_arrows_follow_the_contract() -> None:
    against = [
        f"{name} imports {target}"
        for name, target in sorted(arrows())
        if room(name) != room(target) and room(target) not in MAY_IMPORT[room(name)]
    ]
    assert against == []


def test_limited_arrows_lead_to_the_modules_they_are_limited_to() -> None:
    against = [
        f"{name} imports {target}"
        for name, target in sorted(arrows())
        if target not in ONLY_OF.get((room(name), room(target)), {target})
    ]
    assert against == []


@pytest.mark.parametrize("of", ["modules", "rooms"])
def test_there_is_no_circle(of: str) -> None:
    graph: dict[str, set[str]] = {}
    for name, target in arrows():
        ends = (name, target) if of == "modules" else (room(name), room(target))
        if ends[0] != ends[1] and target in MODULES:
            graph.setdefault(ends[0], set()).add(ends[1])
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("package", "needs"),
    [("rwkv_tts", CLIENT_NEEDS | CLIENT_EXTRAS), ("gateway", {"gateway", "rwkv_tts", *GATEWAY_NEEDS})],
)
def test_what_others_install_needs_little(package: str, needs: set[str]) -> None:
    against = {
        target.partition(".")[0]
        for name, tree in MODULES.items()
        if room(name) == package
        for target in imported(tree)
    }
    assert against - set(sys.stdlib_module_names) == needs


def test_no_class_does_everything() -> None:
    against = []
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                methods = sum(isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) for part in node.body)
                if lines > MOST_LINES or methods > MOST_METHODS:
                    against.append(f"{name}.{node.name}: {lines} lines, {methods} methods")
    assert against == []
