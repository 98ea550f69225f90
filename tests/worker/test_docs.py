"""The documentation names what there is: every field, every setting, every file it links to."""

import re
from pathlib import Path

import pytest

from rwkv_tts.attributes import ATTRIBUTES
from rwkv_tts.schema import SynthesisRequest, SynthesisResult
from worker.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("scripts/**/*.md")])


def table_fields(page: str, heading: str) -> set[str]:
    """The names in the first column of the table under a heading."""
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return set(re.findall(r"`(\w+)`", " ".join(cells)))


@pytest.mark.parametrize(("heading", "model"), [("Request", SynthesisRequest), ("Result", SynthesisResult)])
def test_the_reference_has_every_field_and_no_other(
    heading: str, model: type[SynthesisRequest] | type[SynthesisResult]
) -> None:
    assert table_fields((ROOT / "docs/api.md").read_text(), heading) == set(model.model_fields)


def test_the_reference_has_every_attribute() -> None:
    page = (ROOT / "docs/api.md").read_text().lower()
    for name, values in ATTRIBUTES.items():
        if name != "emotion":
            assert all(f"`{value}`" in page for value in values), name


def test_the_readme_has_every_setting() -> None:
    page = (ROOT / "README.md").read_text()
    assert [name for name in Settings.model_fields if f"`{PREFIX}{name.upper()}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target and "MODEL_CARD" not in page.name:
            assert (page.parent / target).exists(), target
