"""Other people's clients: OpenAI's for Node, the plugins of LiveKit and pipecat, and what our page shows.

The first three are installed from their registries, and skipped where these cannot be reached.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

LIVEKIT = """
import asyncio, json, sys
from livekit.agents import utils
from livekit.plugins import openai

async def main():
    found: dict[str, list[int]] = {}
    async with utils.http_context.open():
        for model in ("tts-1", "gpt-4o-mini-tts"):  # raw audio, and events
            tts = openai.TTS(base_url=sys.argv[1], api_key="none", model=model, voice="alloy")
            frames = [event.frame async for event in tts.synthesize("Hello there.")]
            found[model] = [sum(frame.samples_per_channel for frame in frames), frames[0].sample_rate]
    print(json.dumps(found))

asyncio.run(main())
"""
PIPECAT = """
import asyncio, json, sys
from pipecat.services.openai.tts import OpenAITTSService

async def main():
    voice = OpenAITTSService.Settings(voice="alloy")
    tts = OpenAITTSService(base_url=sys.argv[1], api_key="none", settings=voice)
    tts._sample_rate = 24000  # what a pipeline says when it starts
    frames = [frame async for frame in tts.run_tts("Hello there.", "context") if hasattr(frame, "audio")]
    print(json.dumps({"pipecat": [sum(len(frame.audio) for frame in frames) // 2, frames[0].sample_rate]}))

asyncio.run(main())
"""


def installed(*command: str, folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400)
    except subprocess.TimeoutExpired:
        pytest.skip("cannot be installed: the registry takes too long")
    if done.returncode:
        pytest.skip(f"cannot be installed: {(done.stderr.strip().splitlines() or ['?'])[-1]}")


def told(*command: str, folder: Path) -> Any:
    """The JSON that a program prints last."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_openais_client_for_node(url: str, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node is not installed: apt-get install npm")
    shutil.copy(HERE / "openai_client.mjs", tmp_path)
    installed(npm, "install", "--no-audit", "--no-fund", "openai", folder=tmp_path)
    found = told(node, "openai_client.mjs", f"{url}/v1", folder=tmp_path)
    assert found["head"] == "RIFF"
    assert found["size"] + 8 == found["length"] == found["streamed"]
    assert found["told"] == {"kind": "BadRequestError", "status": 400, "param": "voice", "id": True}


def test_the_plugins_of_livekit_and_pipecat(url: str, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    wanted = ("livekit-plugins-openai", "pipecat-ai[openai]")
    installed(python, "-m", "pip", "install", "--quiet", *wanted, folder=tmp_path)
    found: dict[str, list[int]] = {}
    for code in (LIVEKIT, PIPECAT):
        found |= told(python, "-c", code, f"{url}/v1", folder=tmp_path)
    for name, (samples, rate) in found.items():
        assert rate == 24_000, name
        assert samples / rate > 0.1, name


def test_the_python_of_the_page_runs(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = re.findall(r"```python\n(.*?)```", (ROOT / "docs/gateway.md").read_text(), re.DOTALL)
    [code] = [code for code in found if "openai" in code]
    exec(code.replace("http://127.0.0.1:8000", url), {})  # noqa: S102 - our own page
    assert Path("hello.mp3").stat().st_size > 100


def test_the_curl_of_the_page_runs(url: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    [line] = re.findall(r"```bash\n(curl .*speech .*)\n```", (ROOT / "docs/gateway.md").read_text())
    subprocess.run(["sh", "-c", line.replace("http://127.0.0.1:8000", url)], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "hello.mp3").stat().st_size > 100
