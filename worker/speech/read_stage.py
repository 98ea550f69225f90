"""The reader's thread: makes the further parts of long texts, a few at a time, as the engine asks for them."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from loguru import logger

from rwkv_tts.refusal import Cause, Refusal, RequestError
from worker.speech.stage import Stage
from worker.speech.utterance import Part, Utterance


@dataclass(frozen=True)
class Order:
    """The engine wants so many further parts of an utterance."""

    utterance: Utterance
    count: int


@dataclass(frozen=True)
class Read:
    """What an order has brought.

    Attributes:
        parts: At most as many as were ordered.
        over: There are no more.
        refusal: Why the text cannot be spoken.
    """

    order: Order
    parts: list[Part]
    over: bool
    refusal: Refusal | None = None


class ReadStage(Stage[Order]):
    """Owns the reading of utterances once their first part is made.

    Args:
        to_engine: Gets the answer to every order.
    """

    def __init__(self, to_engine: Callable[[Read], None]) -> None:
        super().__init__("reader")
        self._to_engine = to_engine

    def run(self) -> None:
        while (order := self.inbox.get()) is not None:
            with self.busy():
                read = _read(order)
            self.completed += 1
            self._to_engine(read)


def _read(order: Order) -> Read:
    reading = order.utterance.reading
    assert reading is not None
    try:
        parts = list(islice(reading, order.count))
    except RequestError as error:
        return Read(order, [], over=True, refusal=error.refusal)
    except Exception as error:  # noqa: BLE001 - one text's fault must not end the thread
        logger.exception("a text cannot be read")
        return Read(
            order, [], over=True, refusal=Refusal("text", Cause.INTERNAL, f"{type(error).__name__}: {error}")
        )
    return Read(order, parts, over=len(parts) < order.count)
