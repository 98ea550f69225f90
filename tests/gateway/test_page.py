"""The page, in a real browser, with a microphone that hears a file."""

import io
import json
import os
import re
import shutil
import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import numpy as np
import pytest
from redis import Redis
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from browsers import chromium
from gateway.keys import new_key
from gateways import serving
from rwkv_tts import TTSClient
from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.schema import PartResult
from rwkv_tts.subtitles import srt
from waiting import until
from worker.cli.local import local_worker
from worker.settings import Settings as WorkerSettings

DEMO_VOICE = Path(__file__).parents[2] / "assets" / "demo-voice"
FILES = Path(__file__).parents[2] / "gateway" / "page"
QUEUE = "seen"
SAID = "The small ships come home to the quiet harbour."
STORY = "\n\n".join([f"{SAID} The boy was there when the sun rose, and he saw them all."] * 6)

EAR = """
const connect = AudioNode.prototype.connect, ears = new Map();
window.heard = [];
AudioNode.prototype.connect = function (to, ...rest) {
  if (!(to instanceof AudioDestinationNode)) return connect.call(this, to, ...rest);
  if (!ears.has(to)) {
    const ear = new AnalyserNode(to.context, { fftSize: 4096 });
    const samples = new Float32Array(4096);
    connect.call(ear, to);
    ears.set(to, ear);
    setInterval(() => {
      ear.getFloatTimeDomainData(samples);
      window.heard.push([performance.now(), Math.max(...samples.map(Math.abs))]);
    }, 50);
  }
  return connect.call(this, ears.get(to));
};
"""
"""Listens at the last place before the loudspeaker, whatever the page does."""

slow = pytest.mark.slow
browser = pytest.mark.browser


def test_its_files_are_what_they_are_called_and_nothing_else_is_served(http: httpx.Client) -> None:
    kinds = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}
    for path in FILES.iterdir():
        answer = http.get(f"/page/{path.name}")
        assert (answer.status_code, answer.text) == (200, path.read_text(encoding="utf-8"))
        assert answer.headers["content-type"].startswith(kinds[path.suffix])
        assert answer.headers["content-security-policy"].startswith("default-src 'self';")
        again = http.get(f"/page/{path.name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert http.get("/").text == (FILES / "index.html").read_text(encoding="utf-8")
    for other in ("nothing.js", "..%2fapp.py", "%2e%2e%2fapp.py", "%2fetc%2fpasswd", "."):
        assert http.get(f"/page/{other}").json()["error"]["code"] == "not_found"
    assert http.post("/").status_code == 405


@pytest.fixture(scope="module")
def speaker(redis_url: str) -> Iterator[TTSClient]:
    """A worker with the demo voice, and a client of its queue."""
    with local_worker(WorkerSettings(model=DEMO_VOICE, queue=(QUEUE,), max_rows=8), redis_url) as local:
        local.wait_until_ready()
        yield TTSClient(redis_url, QUEUE)


@pytest.fixture(scope="module")
def site(redis_url: str, speaker: TTSClient) -> Iterator[str]:
    with serving(redis_url, queue=QUEUE) as address:
        until(lambda: '"rms"' in httpx.get(f"{address}/v1/audio/voices").text)
        yield address


@pytest.fixture(scope="module")
def chrome(site: str, speaker: TTSClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A browser whose microphone hears somebody say a sentence."""
    folder = tmp_path_factory.mktemp("browser")
    said = speaker.result(speaker.submit(SAID, voice="clara", seed=3), timeout=60)
    (folder / "said.wav").write_bytes(said.audio)
    microphone = f"use-file-for-fake-audio-capture={folder / 'said.wav'}"
    fakes = ("use-fake-device-for-media-stream", microphone)
    with chromium(folder / "profile", "accept-lang=en", *fakes) as chrome:
        chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": EAR})
        downloads = {"behavior": "allow", "downloadPath": str(folder)}
        chrome.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
        allow(chrome, site, "granted")
        yield chrome


def allow(chrome: Chrome, site: str, setting: str) -> None:
    """Say whether the site may use the microphone."""
    permission = {"origin": site, "permission": {"name": "microphone"}, "setting": setting}
    chrome.execute_cdp_cmd("Browser.setPermission", permission)


class Page:
    """The page in the browser."""

    def __init__(self, chrome: Chrome, site: str) -> None:
        self.chrome, self.site = chrome, site
        self.emulate(1280, 900)
        self.media(scheme="light")

    def open(self, fragment: str = "") -> None:
        self.chrome.get("about:blank")
        for kind in ("browser", "performance"):
            self.chrome.get_log(kind)  # type: ignore[no-untyped-call]
        self.chrome.get(f"{self.site}/{fragment}")
        until(lambda: len(self.select("voice").options) > 2)

    def __getitem__(self, name: str) -> WebElement:
        return self.chrome.find_element(By.ID, name)

    def get(self, name: str, attribute: str) -> str:
        return self[name].get_attribute(attribute) or ""

    def select(self, name: str) -> Select:
        return Select(self[name])

    def emulate(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def media(self, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.chrome.execute_script(f"return {script}", *arguments)

    @property
    def voice(self) -> str:
        """The one that is chosen."""
        return str(self.run("document.getElementById('voice').value"))

    def write(self, text: str) -> None:
        self.chrome.execute_script("arguments[0].value = arguments[1]", self["input"], text)

    def mark(self, name: str) -> float | None:
        """When something happened, in the page's own time."""
        return self.run("performance.getEntriesByName(arguments[0]).at(-1)?.startTime", name)  # type: ignore[no-any-return]

    def heard(self, loud: float = 0.02) -> list[float]:
        """When it was loud."""
        return [at for at, level in self.run("window.heard") if level > loud]

    def speak(self) -> None:
        """Have it spoken, to the end."""
        self["speak"].click()
        until(self["keepsakes"].is_displayed, timeout=60)

    def record(self, seconds: float = 2.0) -> None:
        self["record"].click()
        told = "Number(document.getElementById('recording-told').textContent.match(/\\d+/))"
        until(lambda: self.run(told) >= seconds)
        self["record"].click()
        until(self["recorded"].is_displayed)

    def save(self, name: str) -> None:
        """A picture, for who wants to look."""
        if folder := os.environ.get("TEST_ARTIFACTS"):
            assert self.chrome.save_screenshot(str(Path(folder) / f"page-{name}.png"))

    def check(self, refused: int = 0) -> None:
        """Nothing was complained of, but for answers of errors, and nobody else was asked."""
        told = self.chrome.get_log("browser")  # type: ignore[no-untyped-call]
        severe = [line["message"] for line in told if line["level"] == "SEVERE"]
        assert len([line for line in severe if "Failed to load resource" in line]) == len(severe) == refused, (
            severe
        )
        log = self.chrome.get_log("performance")  # type: ignore[no-untyped-call]
        events = [json.loads(line["message"])["message"] for line in log]
        asked = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
        assert asked
        own = (self.site, f"blob:{self.site}", "data:image/svg+xml;")  # pictures of the browser's own controls
        others = [one["url"] for one in asked if not one["url"].startswith(own)]
        assert others == []


@pytest.fixture
def page(chrome: Chrome, site: str) -> Page:
    page = Page(chrome, site)
    page.open()
    return page


def downloaded(page: Page, chrome: Chrome, button: str, pattern: str) -> bytes:
    """The file that a button saves."""
    folder = Path(chrome.capabilities["chrome"]["userDataDir"]).parent
    page[button].click()
    until(lambda: list(folder.glob(pattern)))
    (found,) = folder.glob(pattern)
    content = found.read_bytes()
    found.unlink()
    return content


@slow
@browser
def test_what_is_typed_is_heard_while_it_is_made(page: Page) -> None:
    page.write("\n\n".join(8 * [STORY]))  # for longer than the seconds between two looks at the workers
    page["input"].send_keys(Keys.CONTROL, Keys.ENTER)
    until(lambda: page.run("document.querySelectorAll('#workers .lit').length") > 1, timeout=60)
    page.save("busy")
    until(page["keepsakes"].is_displayed, timeout=120)
    heard, done = page.heard(), page.mark("speech-done")
    assert done is not None
    assert heard
    assert heard[0] < done - 500
    assert float(page.get("position", "aria-valuetext").split()[0]) > 0
    assert "First sound" in page["told"].text
    page.check()


@slow
@browser
def test_what_was_heard_is_saved_with_its_subtitles_and_linked(page: Page, chrome: Chrome, site: str) -> None:
    seed = 2**64 - 1  # more than the numbers of JavaScript
    page.write(STORY[:200])
    page.select("voice").select_by_value("rms")
    page.select("speed").select_by_value("fast")
    page["seed"].send_keys(str(seed))
    page.speak()
    request = {"input": STORY[:200], "voice": "rms", "speed": "fast", "seed": seed, "timestamps": True}
    made = httpx.post(f"{site}/v1/audio/speech", json={**request, "response_format": "pcm"}, timeout=60).content
    with wave.open(io.BytesIO(downloaded(page, chrome, "download", f"speech-{seed}.wav"))) as audio:
        assert (audio.getframerate(), audio.getnchannels(), audio.getsampwidth()) == (24_000, 1, 2)
        samples = audio.readframes(audio.getnframes())
    assert len(samples) == len(made)
    difference = np.frombuffer(samples, "<i2").astype(int) - np.frombuffer(made, "<i2")
    assert abs(difference).max() <= 2

    told = httpx.post(f"{site}/v1/audio/speech", json={**request, "stream_format": "sse"}, timeout=60).text
    last = json.loads(told.strip().splitlines()[-1].removeprefix("data: "))
    expected = srt(STORY[:200], [PartResult(**part) for part in last["parts"]])
    written = downloaded(page, chrome, "srt", f"speech-{seed}.srt").decode()
    assert re.sub(r",\d+", "", written) == re.sub(r",\d+", "", expected)
    times, expected_times = (np.array(re.findall(r",(\d+)", one), int) for one in (written, expected))
    assert abs(times - expected_times).max() <= 1
    assert downloaded(page, chrome, "vtt", f"speech-{seed}.vtt").startswith(b"WEBVTT\n\n00:00:")
    page.select("format").select_by_value("flac")
    assert downloaded(page, chrome, "download", f"speech-{seed}.flac").startswith(b"fLaC")

    page["link"].click()
    until(lambda: urlsplit(chrome.current_url).fragment)
    page.open(f"#{urlsplit(chrome.current_url).fragment}")
    until(lambda: page.voice == "rms")
    set_again = {name: page.get(name, "value") for name in ("input", "voice", "speed", "seed", "age")}
    assert set_again == {"input": STORY[:200], "voice": "rms", "speed": "fast", "seed": str(seed), "age": ""}
    assert not page["player"].is_displayed()
    page.check()


@slow
@browser
def test_stop_ends_the_job_and_what_there_is_can_be_heard_again(page: Page, connection: Redis) -> None:
    def jobs() -> int:
        return int(connection.zcard(f"rq:wip:{QUEUE}")) + int(connection.llen(f"rq:queue:{QUEUE}"))

    page.write("\n\n".join(8 * [STORY]))
    page["speak"].click()
    until(page.heard, timeout=60)
    assert jobs() == 1
    page["speak"].click()
    until(lambda: not jobs(), timeout=20)
    until(lambda: "Stopped" in page["told"].text)
    until(lambda: (page["speak"].text, page.get("play", "aria-label")) == ("Speak", "Play"))
    page["position"].send_keys(Keys.HOME)
    page["play"].click()
    before = len(page.heard())
    until(lambda: len(page.heard()) > before + 3)
    page.run("document.getElementById('play').click()")
    assert not page["keepsakes"].is_displayed()
    page.check()


@slow
@browser
def test_a_voice_is_cloned_from_the_microphone_and_kept(page: Page, speaker: TTSClient) -> None:
    page.record()
    page.save("recorded")
    assert page.run("document.getElementById('preview').src").startswith("blob:")
    assert page.get("reference_text", "value").startswith("The small ships")
    page.write("The boy was there.")
    page.speak()
    until(page.heard)

    name = f"clara-{uuid4().hex}"
    page["name"].send_keys(name)
    page["name"].send_keys(Keys.ENTER)
    until(lambda: "consent" in page["error-consent"].text)
    assert page.run("document.activeElement.id") == "consent"
    page["consent"].click()
    page["name"].submit()
    until(lambda: page.voice == name, timeout=60)
    assert "The recording" in [option.text for option in page.select("voice").options if option.is_enabled()]
    voice = next(voice for voice in speaker.voices.list() if voice.id == name)
    assert voice.audio_duration > 1
    page.speak()
    page.check(refused=1)


@slow
@browser
def test_a_recording_may_be_a_file_and_no_microphone_is_told_in_words(
    page: Page, chrome: Chrome, site: str, tmp_path: Path
) -> None:
    allow(chrome, site, "denied")
    try:
        page["record"].click()
        until(lambda: "not allowed" in page["error-reference"].text)
    finally:
        allow(chrome, site, "granted")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF, and no audio")
    page["file"].send_keys(str(broken))
    until(page["recorded"].is_displayed)
    page.write("Hello.")
    page["speak"].click()
    until(lambda: page["error-reference"].text.startswith("reference: "), timeout=60)
    assert "unknown format" in page["error-reference"].text
    page["discard"].click()
    assert page.voice == ""
    page.speak()
    page.check(refused=1)


@slow
@browser
def test_what_is_wrong_is_told_beside_its_field(page: Page) -> None:
    page.write("Hello.")
    page["seed"].send_keys("seven")
    page["speak"].click()
    until(lambda: page["error-seed"].text.startswith("seed: "))
    assert page.run("document.activeElement.id") == "seed"
    assert page.get("seed", "aria-invalid") == "true"
    page.write("")
    page["seed"].clear()
    page["speak"].click()
    until(lambda: page["error-input"].text.startswith("input: missing"))
    assert not page["error-seed"].text
    page.check(refused=2)


@slow
@browser
def test_both_languages_say_everything_and_fit_a_phone(page: Page) -> None:
    page.emulate(400, 800)
    page.open()
    page.record(1)
    page.write("Hello.")
    page.speak()
    speaking = "[...document.querySelectorAll('[data-word], option, button, label')]"
    silent = f"{speaking}.filter((one) => !one.textContent && !one.ariaLabel).length"
    for language, title in (("en", "What shall be said?"), ("zh-CN", "要说什么？")):
        assert page.run("document.documentElement.lang") == language
        assert page.chrome.find_element(By.CSS_SELECTOR, "label[for=input]").text == title
        assert page.run(silent) == 0
        assert page.run("document.documentElement.scrollWidth") <= 400
        page.save(f"phone-{language}")
        page["language"].click()
    for name, values in ATTRIBUTES.items():
        assert {option.get_attribute("value") for option in page.select(name).options} == {"", *values}
    page.check()


@slow
@browser
def test_a_key_is_asked_for_where_one_is_needed(redis_url: str, chrome: Chrome, site: str, tmp_path: Path) -> None:
    key, line = new_key("seen", voices=True)
    (tmp_path / "keys").write_text(line)
    assert not Page(chrome, site)["key"].is_displayed()
    with serving(redis_url, queue=QUEUE, keys=tmp_path / "keys") as url:
        page = Page(chrome, url)
        chrome.get(url)
        until(page["key"].is_displayed)
        page["key-field"].send_keys("wrong", Keys.ENTER)
        until(lambda: page["error-key"].text == "wrong API key")
        page["key-field"].clear()
        page["key-field"].send_keys(key, Keys.ENTER)
        until(lambda: not page["key"].is_displayed())
        page.write("Hello.")
        page.speak()
        chrome.get("about:blank")


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The source of axe-core, which finds what people with a screen reader stumble over."""
    npm, folder = shutil.which("npm"), tmp_path_factory.mktemp("axe")
    if npm is None:
        pytest.skip("no npm; on Debian: apt-get install npm")
    line = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "axe-core@4"]
    try:
        subprocess.run(line, capture_output=True, timeout=60, check=True)
    except subprocess.SubprocessError:
        pytest.skip("npm cannot install axe-core here")
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe finds in both languages."""
    violations = []
    for _ in range(2):
        found = page.chrome.execute_async_script("axe.run().then(arguments[0])")
        assert len(found["passes"]) > 20
        violations += [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
        page["language"].click()
    return [(one["id"], one["nodes"][0]["html"]) for one in violations]


@slow
@browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, axe: str, scheme: str) -> None:
    page.media(scheme)
    page.chrome.execute_script(axe)
    page.record(1)
    page.write("Hello.")
    page.speak()
    page.save(f"{scheme}-spoken")
    assert serious(page) == []
    page["seed"].send_keys("seven")
    page["speak"].click()
    until(lambda: page["error-seed"].text)
    page["name"].submit()
    until(lambda: page["error-consent"].text)
    page.save(f"{scheme}-refused")
    assert serious(page) == []
