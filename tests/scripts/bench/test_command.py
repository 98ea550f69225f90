"""The benches are found by their names."""

from importlib import import_module

import pytest

from bench import system, vocoder
from bench.command import BENCHES, main


def test_help_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(BENCHES)


@pytest.mark.parametrize("name", BENCHES)
def test_each_has_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert (import_module(f"bench.{name}").__doc__ or "").splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["system"]])
def test_without_a_name_it_is_the_whole_system(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "main", lambda options: 3 if options == ["--quick"] else 0)
    assert main([*arguments, "--quick"]) == 3


def test_a_name_that_no_bench_has_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nothing"]) == 2
    assert "no bench 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--jobs", "0"], ["--jobs", "x"], ["--concurrency", "1,,2"], ["--rates", "0"], ["--only", "all"]]
)
def test_options_that_cannot_be_are_refused(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(options)
    assert ended.value.code == 2
    assert "accepted" in capsys.readouterr().err


def test_the_vocoder_s_needs_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        vocoder.main([])
    assert "it needs a CUDA device" in capsys.readouterr().err
