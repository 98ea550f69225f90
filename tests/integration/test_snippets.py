"""The Python on the pages for producers runs as it stands there, against a worker with the demo voice."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

from composed import REPOSITORY
from rwkv_tts import TTSClient
from worker.cli.embedded import embedded_redis
from worker.cli.local import local_worker
from worker.settings import Settings

pytestmark = pytest.mark.slow

URL = "redis://localhost:6379"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server of its own, because voices are kept in it."""
    with embedded_redis() as url, local_worker(Settings(max_rows=4), url) as local:
        local.wait_until_ready()
        yield url


def snippets(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL)


def runnable(code: str, url: str) -> str:
    """The code with the server of the test; what stands in a coroutine gets one."""
    code = code.replace(f'"{URL}"', repr(url)).replace("Redis()", f"Redis.from_url({url!r})")
    before, awaits, after = code.partition("\nasync with ")
    if not awaits:
        return code
    return f"{before}\nasync def main():\n{indent(awaits.lstrip() + after, '    ')}\nasyncio.run(main())"


@pytest.mark.parametrize("page", ["README.md", "docs/producers.md", "client/README.md"])
def test_the_python_of_a_page_runs(page: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    client = TTSClient(url)
    recording = client.result(client.submit("This is a voice to clone.", format="flac", seed=1), timeout=60)
    Path("anna.flac").write_bytes(recording.audio)
    names: dict[str, Any] = {"asyncio": asyncio}
    for code in snippets(page):
        exec(runnable(code, url), names)  # noqa: S102 - our own pages
    assert snippets(page)
    assert Path("hello.opus").read_bytes().startswith(b"OggS")
    if "speak" in names:
        spoken = asyncio.run(names["speak"](["Hello.", "Good night."]))
        assert [speech.result.mode for speech in spoken] == ["voice", "voice"]
