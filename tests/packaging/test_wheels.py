"""The three wheels as strangers get them: what is in them, what they install, that they speak from any folder."""

import json
import os
import shutil
import subprocess
import sys
import wave
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.request import urlopen

import pytest
from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from worker import __version__

ROOT = Path(__file__).parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
CLIENT, GATEWAY, WORKER = "rwkv_tts_client", "rwkv_tts_gateway", "rwkv_tts_worker"
PACKAGES = ("worker", "batching", "sampler", "model", "codec", "native")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "client", "gateway", "assets", *PACKAGES)
LEFT_OUT = shutil.ignore_patterns("build", "*.egg-info", "__pycache__", "*.so")
HEAVY = ("torch", "numpy", "soundfile", "soxr", "transformers")
"""What a producer must not need."""

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

SUBMIT = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split(","):
            raise AssertionError(f"imports {name}")

sys.meta_path.insert(0, Blocked())
import rwkv_tts

print(rwkv_tts.TTSClient(sys.argv[1], "packed").submit("Hello."))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels, built from a copy: a build leaves its traces in the sources."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=LEFT_OUT)
        else:
            shutil.copy(path, source)
    rooms = (source / room for room in ("client", "gateway", "."))
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", folder, *rooms)
    return folder


def pip(python: Path | str, *arguments: object) -> None:
    line = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def environment(python: str, folder: Path) -> Path:
    """The interpreter of a new virtual environment."""
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    return folder / "bin" / "python"


def content(wheels: Path, name: str) -> set[str]:
    (path,) = wheels.glob(f"{name}-*.whl")
    return set(zipfile.ZipFile(path).namelist())


def top_level(names: set[str]) -> set[str]:
    return {name.partition("/")[0] for name in names if ".dist-info/" not in name}


def test_the_clients_wheel_has_one_name_and_its_scripts(wheels: Path) -> None:
    names = content(wheels, CLIENT)
    assert top_level(names) == {"rwkv_tts"}
    assert {"rwkv_tts/py.typed", "rwkv_tts/lua/enqueue.lua"} <= names


def test_the_gateways_wheel_has_one_name_and_every_module(wheels: Path) -> None:
    names = content(wheels, GATEWAY)
    assert top_level(names) == {"gateway"}
    patterns = ("**/*.py", "page/*", "py.typed")
    files = {path.relative_to(ROOT).as_posix() for each in patterns for path in (ROOT / "gateway").glob(each)}
    assert files == {name for name in names if ".dist-info/" not in name}


def test_the_workers_wheel_has_the_demo_voice_and_not_the_client(wheels: Path) -> None:
    names = content(wheels, WORKER)
    assert top_level(names) == set(PACKAGES)
    voice = ROOT / "assets" / "demo-voice"
    files = {path.relative_to(voice).as_posix() for path in voice.rglob("*") if path.is_file()}
    assert {f"worker/demo_voice/{name}" for name in files} <= names
    assert {f"worker/broker/lua/{path.name}" for path in (ROOT / "worker/broker/lua").glob("*.lua")} <= names
    modules = {
        path.relative_to(ROOT).as_posix() for name in top_level(names) for path in (ROOT / name).rglob("*.py")
    }
    assert modules <= names


def compiled(names: set[str]) -> list[str]:
    return [name for name in names if name.startswith("native/_compiled.")]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_the_workers_wheel_has_compiled_code_where_there_is_a_compiler(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(compiled(content(wheels, WORKER))) == 1
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("assets", *PACKAGES):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=LEFT_OUT)
    monkeypatch.setenv("CC", "false")
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", tmp_path, tmp_path)
    assert compiled(content(tmp_path, WORKER)) == []


@pytest.fixture(
    scope="module",
    params=["python3.10", "python3.12", "python3.13", sys.executable],
    ids=["3.10", "3.12", "3.13", "this"],
)
def producer(request: pytest.FixtureRequest, wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the client only."""
    python = shutil.which(request.param)
    works = (
        python and subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0
    )
    if not python or not works:
        pytest.skip(f"{request.param} is not installed")
    interpreter = environment(python, tmp_path_factory.mktemp("producer") / "venv")
    pip(interpreter, "install", *wheels.glob(f"{CLIENT}-*.whl"))
    return interpreter


def test_a_producer_needs_redis_rq_and_pydantic_only(producer: Path, redis_url: str, tmp_path: Path) -> None:
    line = [str(producer), "-c", SUBMIT, redis_url, ",".join(HEAVY)]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    job = Job.fetch(done.stdout.strip(), Redis.from_url(redis_url), serializer=JSONSerializer)
    assert (job.origin, job.kwargs) == ("packed", {"request": {"text": "Hello."}})
    listed = [str(producer), "-m", "pip", "--disable-pip-version-check", "list", "--format=json"]
    installed = json.loads(subprocess.run(listed, capture_output=True, text=True, check=True).stdout)
    assert not {package["name"].lower() for package in installed} & set(HEAVY)


def test_a_gateway_needs_no_model(wheels: Path, redis_url: str, tmp_path: Path) -> None:
    python = environment(sys.executable, tmp_path / "venv")
    pip(python, "install", "-c", CONSTRAINTS, *wheels.glob(f"{CLIENT}-*.whl"), *wheels.glob(f"{GATEWAY}-*.whl"))
    listed = [str(python), "-m", "pip", "--disable-pip-version-check", "list", "--format=json"]
    installed = json.loads(subprocess.run(listed, capture_output=True, text=True, check=True).stdout)
    assert not {package["name"].lower() for package in installed} & set(HEAVY)
    line = [str(python.parent / "rwkv-tts-gateway"), "--redis", redis_url, "--port", "0"]
    with subprocess.Popen(line, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = process.stderr.readline().split()[-1]
        with urlopen(f"{address}/healthz") as answer:  # noqa: S310 - our own
            assert answer.status == 200
        process.terminate()


@pytest.fixture(scope="module")
def command(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``rwkv-tts`` in an environment of its own, installed from a folder that holds the wheels."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    python = environment(sys.executable, folder)
    pip(python, "install", "-c", CONSTRAINTS, "--find-links", wheels, "rwkv-tts-worker")
    yield folder / "bin" / "rwkv-tts"
    shutil.rmtree(folder)


def run(command: Path, folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "REDIS_URL")}
    variables = {**inherited, "OMP_WAIT_POLICY": "passive", **variables}
    return subprocess.run([str(command), *arguments], cwd=folder, env=variables, capture_output=True, text=True)


def write_impostors(folder: Path, names: Mapping[str, str]) -> None:
    for name, code in names.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)


def test_it_speaks_from_any_folder_and_runs_no_code_of_it(command: Path, tmp_path: Path) -> None:
    trap = "raise SystemExit('code of the current folder was run')"
    places = ["worker/__init__.py", "worker/__main__.py", "worker/cli/__main__.py", "rwkv_tts.py", "torch.py"]
    write_impostors(tmp_path, dict.fromkeys(places, trap))
    version = run(command, tmp_path, "--version")
    assert version.stdout == f"rwkv-tts {__version__}\n", version.stderr
    done = run(command, tmp_path, "say", "One two three.", "--seed", "1", "-o", "said.wav")
    assert done.returncode == 0, done.stdout + done.stderr
    with wave.open(str(tmp_path / "said.wav")) as audio:
        assert audio.getframerate() == 16_000
        assert 0.5 < audio.getnframes() / 16_000 < 5
