"""Jobs that another worker's recovery takes from a worker that was only silent, and that come back to it."""

from rq.job import JobStatus

from stage import Ours
from waiting import until
from worker.broker.rules import Rules


def take(stage: Ours, job_id: str) -> None:
    """As a recovery does: the execution is forgotten and the job is at the front of its queue."""
    queue = stage.queue()
    with stage.connection.pipeline() as pipeline:
        pipeline.delete(queue.started_job_registry.key)
        pipeline.hset(stage.job(job_id).key, "status", JobStatus.QUEUED.value)
        pipeline.lpush(queue.key, job_id)
        pipeline.execute()


def test_a_job_that_comes_back_while_its_old_execution_still_runs(redis_url: str) -> None:
    """The new one waits for the end of the old one, which must not be taken for its own."""
    ours = Ours(f"{redis_url}?db=2", Rules(), rows=4)
    ours.submit("a", held=True)

    def taken_away() -> None:
        ours.until_started("a")
        take(ours, "a")
        until(lambda: ours.script.started.count("a") == 2)
        ours.script.release.set()

    ours.work(taken_away)
    assert ours.script.started == ["a", "a"]
    assert ours.script.most == 1
    (result,) = ours.job("a").results()
    assert result.return_value == {"said": "a", "try": 2}
    assert ours.status("a") == JobStatus.FINISHED
