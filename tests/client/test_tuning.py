"""Changes of a running worker's values: each is checked, and a bad one changes nothing."""

from typing import Any

import pytest

from rwkv_tts.tuning import Tunable, TuningError, changed

START = Tunable(token_chunk_size=64, max_rows=8, log_level="WARNING")
NOW = Tunable(token_chunk_size=32, max_rows=2, log_level="DEBUG")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ({}, NOW),
        ({"max_rows": 8}, NOW.model_copy(update={"max_rows": 8})),
        ({"log_level": "info", "token_chunk_size": 1}, Tunable(token_chunk_size=1, max_rows=2, log_level="INFO")),
        ({"reset": True}, START),
        ({"reset": True, "max_rows": 3}, START.model_copy(update={"max_rows": 3})),
        ({"reset": False}, NOW),
    ],
)
def test_a_change_keeps_what_it_does_not_name(change: dict[str, Any], after: Tunable) -> None:
    assert changed(NOW, START, change) == after


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"max_rows": 9}, "max_rows: '9'; accepted: 1 to 8, the state slots of the worker"),
        ({"max_rows": 0, "log_level": "INFO"}, "max_rows: '0'; accepted: 1 to 8"),
        ({"token_chunk_size": 0}, "token_chunk_size: '0'; accepted: a whole number from 1"),
        ({"token_chunk_size": "7"}, "token_chunk_size: '7'; accepted"),
        ({"token_chunk_size": 7.5}, "token_chunk_size: '7.5'; accepted"),
        ({"token_chunk_size": True}, "token_chunk_size: 'True'; accepted"),
        ({"token_chunk_size": None}, "token_chunk_size: 'None'; accepted"),
        ({"log_level": "LOUD"}, "log_level: 'LOUD'; accepted: TRACE, DEBUG, INFO, WARNING or ERROR"),
        ({"log_level": "x" * 500}, "x" * 80 + "'; accepted"),
        ({"reset": "yes"}, "reset: 'yes'; accepted: true or false"),
        ({"model": "/etc"}, "'model': unknown value; accepted: token_chunk_size, max_rows, log_level, reset"),
    ],
)
def test_a_bad_change_is_refused_by_name(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(TuningError) as caught:
        changed(NOW, START, change)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
