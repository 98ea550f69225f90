"""What the log says of jobs, whatever their producers have written into them."""

import json
from typing import Any

import pytest
from loguru import logger
from rq.queue import Queue
from rq.serializers import JSONSerializer

from hands import Hand
from rwkv_tts.keys import ARGUMENT, FUNCTION
from worker.broker.outcome import Fate, Outcome
from worker.ops.journal import Journal


def nested(levels: int) -> Any:
    return json.loads("[" * levels + "]" * levels)


@pytest.mark.parametrize(
    ("given", "shown"),
    [("x" * 100, repr("x" * 80)), ("\ud800\n", r"'\ud800\n'"), (7, "'int'"), (nested(300), "'list'")],
    ids=["long", "unprintable", "a number", "nested"],
)
def test_a_traceparent_that_is_none_is_one_line(hand: Hand, queue: Queue, given: Any, shown: str) -> None:
    plain = Queue(queue.name, connection=queue.connection, serializer=JSONSerializer)
    request = {"text": "hello", "metadata": {"traceparent": given}}
    job = plain.enqueue_call(FUNCTION, kwargs={ARGUMENT: request}).id
    (claimed,) = hand.claim()
    lines: list[Any] = []
    sink = logger.add(lambda message: lines.append(message.record), level="INFO")
    Journal().ended(Outcome(claimed, Fate.FINISHED, {"said": "hello"}))
    logger.remove(sink)
    ignored, finished = lines
    accepted = "accepted: the traceparent of W3C Trace Context"
    assert ignored["message"] == f"job {job}: metadata.traceparent: {shown} is ignored; {accepted}"
    assert (finished["extra"]["fate"], finished["extra"]["traceparent"]) == ("finished", None)
