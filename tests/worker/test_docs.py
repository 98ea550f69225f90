"""The documentation names what there is: fields, settings, exit codes, series, commands, files and headings."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pydantic_core import PydanticUndefined

from gateway.orders import OPENAI
from gateway.settings import PREFIX as GATEWAY_PREFIX
from gateway.settings import Settings as GatewaySettings
from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.refusal import Cause
from rwkv_tts.schema import FORMATS, SynthesisRequest, SynthesisResult
from worker.broker.batch_worker import ExitCode
from worker.settings import DEFAULT_MODEL, PREFIX, Settings
from worker.speech.config import ModelConfig

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("scripts/**/*.md"),
        ROOT / "client/README.md",
        ROOT / "gateway/README.md",
    )
    if path.name != "MODEL_CARD.md"  # it is written into a model directory
)
FOLDERS = "assets|batching|client|codec|deploy|docs|gateway|model|sampler|scripts|tests|worker"
ELSEWHERE = ("deploy/secrets", "assets/raf", "assets/model")
"""Made by a script, or another project's."""


def text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of all tables between a heading and the next one of its level, without their heads."""
    level, name = re.findall(rf"^(#+) ({re.escape(heading)})$", text(page), re.MULTILINE)[0]
    section = text(page).split(f"\n{level} {name}\n")[1]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, flags=re.MULTILINE)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    heads = {i for i, line in enumerate(lines[1:]) if re.fullmatch(r"[|-]+", line)}
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [cells[i] for i in range(len(lines)) if i not in heads and i - 1 not in heads]


def names(cells: list[list[str]], column: int = 0) -> set[str]:
    """What stands in code marks in a column."""
    return {name for row in cells for name in re.findall(r"`([\w-]+)`", row[column])}


@pytest.mark.parametrize(("heading", "model"), [("Request", SynthesisRequest), ("Result", SynthesisResult)])
def test_the_page_of_requests_has_every_field_and_no_other(
    heading: str, model: type[SynthesisRequest] | type[SynthesisResult]
) -> None:
    assert names(rows("docs/api.md", heading)) == set(model.model_fields)


def test_the_page_of_requests_has_every_attribute() -> None:
    page = text("docs/api.md").lower()
    for name, values in ATTRIBUTES.items():
        if name != "emotion":
            assert all(f"`{value}`" in page for value in values), name


def test_the_page_of_requests_describes_every_format() -> None:
    assert names(rows("docs/api.md", "Formats")) == set(FORMATS)


def test_the_page_of_options_has_every_setting_with_its_default() -> None:
    table = rows("docs/options.md", "Options of a worker")
    assert [re.findall(r"`--([a-z-]+)", option)[0] for option, *_ in table] == [
        re.findall(rf"`{PREFIX}(\w+)`", variable)[0].lower().replace("_", "-") for _, variable, *_ in table
    ]
    told = {re.findall(rf"`{PREFIX}(\w+)`", variable)[0].lower(): default for _, variable, default, _ in table}
    assert told == {name: _shown(field.default) for name, field in Settings.model_fields.items()} | {
        "redis": "embedded"
    }


def test_the_page_of_the_gateway_has_every_setting_with_its_default_and_every_field_of_openais() -> None:
    table = rows("docs/gateway.md", "Settings")
    found = ((re.findall(rf"`{GATEWAY_PREFIX}(\w+)`", variable)[0], default) for _, variable, default, _ in table)
    told = {name.lower(): default for name, default in found}
    expected = {name: _shown(field.default) for name, field in GatewaySettings.model_fields.items()}
    assert told == expected | {"aliases": "OpenAI's names"}
    assert names(rows("docs/gateway.md", "Speech")[:7]) == OPENAI - {"stream"}


def _shown(default: object) -> str:
    """A default as the table writes it."""
    if default == DEFAULT_MODEL:
        default = DEFAULT_MODEL.relative_to(ROOT).as_posix()
    if isinstance(default, tuple):
        default = ",".join(default) or None
    if isinstance(default, bool) or default is None:
        return "none" if default is None else str(default).lower()
    return (
        f"{default:g}"
        if isinstance(default, float)
        else str(default)
        if isinstance(default, int)
        else f"`{default}`"
    )


def test_the_page_of_failures_has_every_exit_code_and_cause() -> None:
    assert {int(code) for code, _ in rows("docs/failures.md", "Exit codes")} == {
        1,  # of Python itself, and of the watchdog
        *map(int, ExitCode),
    }
    causes = {row[0].strip("`"): row[2] for row in rows("docs/failures.md", "Why a job failed")}
    assert causes.keys() == {str(cause) for cause in Cause}
    assert {name for name, retried in causes.items() if retried == "no"} == {
        str(cause) for cause in Cause if not cause.may_pass
    }


def test_the_page_of_models_has_every_field_of_a_configuration_with_its_need() -> None:
    table = rows("docs/models.md", "Model directory")
    assert names(table) == set(ModelConfig.model_fields)
    required = {name for name, field in ModelConfig.model_fields.items() if field.default is PydanticUndefined}
    assert {row[0].strip("`") for row in table if row[1] == "required"} == required


def test_every_series_that_a_page_names_is_one_that_a_worker_shows() -> None:
    code = "".join(path.read_text() for path in (ROOT / "worker/ops").glob("*.py"))
    gateways = set(re.findall(r'f"{PREFIX}([a-z_]+)"', text("gateway/metrics.py")))
    told = {name for page in PAGES for name in re.findall(r"`rwkv_tts_(\w+)`", page.read_text(encoding="utf-8"))}
    shown = set(re.findall(r'"([a-z_]+)"', code)) | {"engine_info"}
    of_gateway = {name for name in told if name.startswith("gateway_")}
    assert {name.removeprefix("gateway_").removesuffix("_total") for name in of_gateway} == gateways
    assert told - of_gateway - shown == set()
    made = set(re.findall(r'(?:PREFIX \+ |self\._(?:counters?|histogram)\(\s*)"([a-z_]+)"', code)) - {"engine"}
    assert made - told == set()


def test_the_readme_is_a_page_whose_first_command_is_in_sight() -> None:
    for page in ("README.md", "README.zh.md"):
        lines = text(page).splitlines()
        assert len(lines) <= 120
        assert any("git clone" in line for line in lines[:15]), page


def test_the_readmes_have_the_same_sections_and_rooms() -> None:
    english, chinese = text("README.md"), text("README.zh.md")
    assert len(re.findall(r"^## ", english, re.MULTILINE)) == len(re.findall(r"^## ", chinese, re.MULTILINE))
    assert re.findall(r"^\| (`[a-z/]+`)", english, re.MULTILINE) == re.findall(
        r"^\| (`[a-z/]+`)", chinese, re.MULTILINE
    )
    assert re.findall(r"^```(?:\w*)$", english, re.MULTILINE) == re.findall(r"^```(?:\w*)$", chinese, re.MULTILINE)


def test_the_sound_sample_is_speech_from_its_first_moment_to_its_last() -> None:
    file = ROOT / "docs/sample.mp3"
    wave, rate = soundfile.read(file)
    assert file.stat().st_size < 60_000
    assert 2 < len(wave) / rate < 10
    assert -26 < 20 * np.log10(np.sqrt(np.mean(wave**2))) < -14
    loud = np.flatnonzero(np.abs(wave) > 0.01) / rate
    assert loud[0] < 0.2
    assert len(wave) / rate - loud[-1] < 0.2


def _links(page: Path) -> Iterator[tuple[Path, str]]:
    """The files and headings of this repository that a page links to."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, heading = target.partition("#")
            yield (page.parent / path if path else page), heading


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for path, heading in _links(page):
        assert path.exists(), path
        if heading:
            assert heading in _anchors(path), f"{path}#{heading}"


def _anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub makes links of them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_are_there(page: Path) -> None:
    """In code marks and in blocks of code; the changelog tells of files that were, capitals stand for any name."""
    if page.name == "CHANGELOG.md":
        return
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", page.read_text(encoding="utf-8"), re.DOTALL))
    named = set(re.findall(rf"(?<![\w/.*-])(?:\.\./)*((?:{FOLDERS})/[\w./-]*[a-z0-9])(?![\w*])", code))
    missing = [name for name in named if not (ROOT / name).exists() and not name.startswith(ELSEWHERE)]
    bare = set(re.findall(r"(?<![\w/.*-])(\w+\.(?:py|lua|sh|mjs|yml))(?!\w)", code)) - {"compose.override.yml"}
    there = {path.name for folder in FOLDERS.split("|") for path in (ROOT / folder).rglob("*.*")}
    assert sorted(missing) + sorted(bare - there - {path.name for path in ROOT.iterdir()}) == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {path.resolve() for path, _ in _links(ROOT / "README.md")}
    assert [page for page in PAGES if page.parent == ROOT / "docs" and page.resolve() not in reached] == []


def test_no_page_names_a_module_that_is_none() -> None:
    """As in ``python -m worker.cli`` and ``from rwkv_tts import TTSClient``."""
    for page in PAGES:
        for code in re.findall(r"```.*?```", page.read_text(encoding="utf-8"), re.DOTALL):
            for module in re.findall(
                rf"(?:python -m|^from|^import) ((?:rwkv_tts|{FOLDERS})[\w.]*)", code, re.MULTILINE
            ):
                path = ROOT / ("client" if module.startswith("rwkv_tts") else "") / module.replace(".", "/")
                assert path.with_suffix(".py").exists() or path.is_dir(), module


def test_every_target_of_make_that_a_page_names_is_one() -> None:
    makefile = text("Makefile")
    targets = set(re.findall(r"^([\w.-]+):", makefile, re.MULTILINE))
    for page in (ROOT / "README.md", ROOT / "README.zh.md", ROOT / "CONTRIBUTING.md", ROOT / "docs/benchmarks.md"):
        blocks = "".join(re.findall(r"```bash\n.*?```|`make [^`]+`", page.read_text(encoding="utf-8"), re.DOTALL))
        for line in re.findall(r"(?:^|`)make ([a-z][\w -]*?)(?= +#| *$|`| [A-Z])", blocks, re.MULTILINE):
            assert set(line.split()) <= targets, line
