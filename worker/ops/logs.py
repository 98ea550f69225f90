"""Where log lines go: one sink on stderr, in one format, for this package and RQ, at a level that can change."""

import json
import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any

from loguru import logger

from rwkv_tts.tuning import LogLevel

if TYPE_CHECKING:
    from loguru import Message, Record

_RQ = logging.getLogger("rq")


class _FromRQ(logging.Handler):
    """Hands RQ's records on, as lines of the module that wrote them."""

    def emit(self, record: logging.LogRecord) -> None:
        def origin(line: "Record") -> None:
            line["name"], line["function"], line["line"] = record.name, record.funcName, record.lineno

        told = logger.patch(origin).opt(exception=record.exc_info)
        told.log(record.levelname, "{}", record.getMessage())


class _Sink:
    """The one sink of the process."""

    def __init__(self) -> None:
        self._json = False
        self._id: int | None = None

    def configure(self, level: LogLevel, *, as_json: bool, with_rq: bool = True) -> None:
        """Take the place of all sinks that there are; without RQ, its lines go where its command sends them."""
        logger.remove()
        self._json, self._id = as_json, None
        if with_rq:
            _RQ.handlers, _RQ.propagate = [_FromRQ()], False  # RQ adds no handler of its own where it finds one
        self.set_level(level)

    def set_level(self, level: LogLevel) -> None:
        """Let pass what is at least this important; no line is lost meanwhile."""
        before = self._id
        self._id = logger.add(
            _write_json if self._json else sys.stderr, level=level, backtrace=False, diagnose=False
        )
        if before is not None:
            logger.remove(before)
        _RQ.setLevel(logger.level(level).no)


_SINK = _Sink()
configure = _SINK.configure
set_level = _SINK.set_level


def _write_json(message: "Message") -> None:
    """One object on one line: event, level, time, message and module first, then what is bound, and an error."""
    record = message.record
    first = {
        "event": record["extra"].get("event", "log"),
        "level": record["level"].name,
        "time": record["time"].isoformat(),
        "message": record["message"],
        "module": record["name"],
    }
    line: dict[str, Any] = first | record["extra"] | first
    if record["exception"] is not None:
        line["exception"] = "".join(traceback.format_exception(*record["exception"]))
    sys.stderr.write(json.dumps(line, default=str, ensure_ascii=False) + "\n")
    sys.stderr.flush()
