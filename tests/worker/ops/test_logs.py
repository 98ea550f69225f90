"""Log lines: one format for ours and RQ's, JSON that a parser takes, a level that changes while it runs."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from loguru import logger
from rq.logutils import setup_loghandlers
from rq.worker import base as rq_worker

from worker.ops import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave RQ's logger and ours as other tests find them."""
    theirs = logging.getLogger("rq")
    handlers, propagate, level = theirs.handlers, theirs.propagate, theirs.level
    rq_worker.logger.setLevel(logging.NOTSET)  # a worker of another test may have set it
    yield
    theirs.handlers, theirs.propagate = handlers, propagate
    theirs.setLevel(level)
    logs.configure("DEBUG", as_json=False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


def test_a_json_line_holds_what_was_said_and_bound(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", as_json=True)
    logger.info("job {job}: {seconds:.1f} s, “é”\nnext", job="a1", seconds=1.25)
    logger.bind(row=object).warning("{} {{}}", "plain")
    first, second = objects(capsys)
    assert first | {"time": None} == {
        "event": "log",
        "level": "INFO",
        "time": None,
        "message": "job a1: 1.2 s, “é”\nnext",
        "module": __name__,
        "job": "a1",
        "seconds": 1.25,
    }
    assert list(first) == ["event", "level", "time", "message", "module", "job", "seconds"]
    assert datetime.fromisoformat(first["time"]).tzinfo is not None
    assert (second["level"], second["message"], second["row"]) == ("WARNING", "plain {}", str(object))


def test_a_json_line_holds_the_error_but_no_values(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", as_json=True)
    secret = "hunter2"  # noqa: S105
    try:
        raise ValueError("broken") from KeyError(len(secret))
    except ValueError:
        logger.exception("it failed")
    (line,) = objects(capsys)
    assert line["message"] == "it failed"
    assert line["exception"].startswith("KeyError: 7")
    assert line["exception"].rstrip().endswith("ValueError: broken")
    assert secret not in json.dumps(line)


@pytest.mark.parametrize("as_json", [False, True])
def test_rq_speaks_through_the_same_sink(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    logs.configure("INFO", as_json=as_json)
    setup_loghandlers(None, name="rq.worker")  # as RQ does when a worker starts
    rq_worker.logger.info("worker %s is {here}", "w1")
    rq_worker.logger.debug("not shown")
    logging.getLogger("rq.registry").warning("and so does the rest")
    captured = capsys.readouterr()
    assert captured.out == ""
    shown = captured.err.splitlines()
    assert len(shown) == 2
    if as_json:
        first, second = map(json.loads, shown)
        assert (first["level"], first["module"], first["message"]) == ("INFO", "rq.worker", "worker w1 is {here}")
        assert second["module"] == "rq.registry"
    else:
        assert "| INFO     | rq.worker:test_rq_speaks" in shown[0]
        assert shown[0].endswith(" - worker w1 is {here}")


def test_the_level_changes_for_both_and_for_all_that_follows(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("WARNING", as_json=True)
    for level in ("WARNING", "TRACE", "ERROR", "INFO"):
        logs.set_level(level)
        for mine in ("TRACE", "INFO", "WARNING", "ERROR"):
            logger.log(mine, "{} at {}", mine, level)
        rq_worker.logger.info("INFO of RQ at %s", level)
    assert [line["message"] for line in objects(capsys)] == [
        *("WARNING at WARNING", "ERROR at WARNING"),
        *("TRACE at TRACE", "INFO at TRACE", "WARNING at TRACE", "ERROR at TRACE", "INFO of RQ at TRACE"),
        "ERROR at ERROR",
        *("INFO at INFO", "WARNING at INFO", "ERROR at INFO", "INFO of RQ at INFO"),
    ]
