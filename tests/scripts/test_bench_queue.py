"""The benchmark of a whole queue, small and on a CPU."""

import json

import pytest

import bench_queue
import bench_vocoder


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_job_ends_with_the_seconds_it_asks_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_queue, "SECONDS", (0.6, 1.2))
    asked = [job["max_seconds"] for job in bench_queue.jobs(6, ["first", "second"], seed=1)]
    options = ["--device", "cpu", "--jobs", "6", "--max-rows", "4", "--turns", "1", "--single", "2"]
    assert bench_queue.main(options) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    (run,) = found["runs"]
    assert run["audio_seconds"] == pytest.approx(sum(asked), abs=0.02 * len(asked))
    assert run["audio_seconds_per_second"] == pytest.approx(run["audio_seconds"] / run["wall"])
    assert 1 < run["mean_batch"] <= 4
    assert all(0 < run["busy"][stage] < run["wall"] for stage in ("engine", "vocoder", "encoder", "delivery"))
    assert run["bytes"] > 2 * 16000 * run["audio_seconds"]
    assert len(found["alone"]) == 2
    assert all(one["rtf"] > one["timings"]["total"] / one["seconds"] for one in found["alone"])


def test_the_vocoder_s_needs_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit):
        bench_vocoder.main([])
    assert "it needs a CUDA device" in capsys.readouterr().err
