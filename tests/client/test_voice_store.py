"""Voices in a real Redis: bytes survive, and of those who want the same at once one wins and the others know."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from redis import Redis

from raf import raf
from rwkv_tts.keys import VOICES_KEY, tokens_key
from rwkv_tts.voice_store import VoiceStore, VoiceTokens, _timestamp, kept_voice
from rwkv_tts.voices import MAX_RAF_BYTES, Voice, VoiceError, load_raf

THREADS = 8
TOKENS = VoiceTokens(globals=[*range(32)], semantic=[8191, 0, 7], text="héllo", seconds=1.1, sample_rate=16000)


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """An empty database of the shared server."""
    connection = Redis.from_url(f"{redis_url}?db=11")
    connection.flushdb()
    yield connection
    connection.flushdb()


@pytest.fixture
def store(redis: Redis) -> VoiceStore:
    return VoiceStore(redis)


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(VoiceError) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def at_once(act: Callable[[int], Any]) -> list[Any]:
    """What each of several threads got, or the error that it was told."""
    barrier = threading.Barrier(THREADS)

    def run(number: int) -> Any:
        barrier.wait()
        try:
            return act(number)
        except VoiceError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(THREADS)))


# Bytes in, bytes out.


@pytest.mark.parametrize(
    "text", [raf(), raf() + "\n", json.dumps(json.loads(raf()))], ids=["file", "newline", "line"]
)
def test_a_voice_comes_out_byte_for_byte_as_it_went_in(store: VoiceStore, redis: Redis, text: str) -> None:
    added = store.add(text)
    assert added == store.get("anna") == load_raf(text)
    assert store.text("anna") == text
    assert redis.hget(VOICES_KEY, "anna") == text.encode()


def test_a_voice_object_is_stored_as_its_file(store: VoiceStore) -> None:
    store.add(load_raf(raf()))
    assert store.text("anna") == raf()


def test_a_list_is_sorted_and_complete_and_leaves_out_what_cannot_be_used(store: VoiceStore, redis: Redis) -> None:
    names = [f"v{number:03}" for number in range(250)]
    for name in reversed(names):
        store.add(raf(name))
    redis.hset(VOICES_KEY, "broken", "{}")
    redis.hset(VOICES_KEY, b"\xff", raf())
    assert [voice.id for voice in store.list()] == names == store.ids()[1:-1]


# What is refused, and that it changes nothing.

BAD = {
    "not JSON": ("voice", "not a RAF voice file"),
    "checksum": (raf().replace("5.2", "5.3"), "checksum does not match"),
    "traversing id": (raf("../anna"), "voice id '../anna': accepted are"),
    "too long": (raf(prompt_text="x" * MAX_RAF_BYTES), f"too long; accepted: up to {MAX_RAF_BYTES} bytes"),
    "too long in bytes": (raf(prompt_text="é" * (MAX_RAF_BYTES // 2)), "too long"),
    "not Unicode": ("\ud800", "not Unicode"),
}


@pytest.mark.parametrize("problem", BAD)
def test_what_is_no_voice_is_refused(store: VoiceStore, redis: Redis, problem: str) -> None:
    text, reason = BAD[problem]
    assert reason in refusal(lambda: store.add(text))
    assert redis.hlen(VOICES_KEY) == 0


def test_the_second_of_one_id_is_refused_and_the_first_stays(store: VoiceStore) -> None:
    store.add(raf())
    assert "voice id 'anna': there is one already" in refusal(lambda: store.add(raf(name="other")))
    refusal(lambda: store.check_free("anna"))
    store.check_free("berta")
    assert store.text("anna") == raf()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"{}", "not a RAF voice file"),
        (b"\xff", "not UTF-8"),
        (b"x" * (MAX_RAF_BYTES + 1), "too long"),
        (raf("berta").encode(), "its file says 'berta'"),
    ],
)
def test_what_somebody_else_wrote_is_told_and_can_be_removed(
    store: VoiceStore, redis: Redis, data: bytes, reason: str
) -> None:
    redis.hset(VOICES_KEY, "anna", data)
    for act in (store.get, store.text, lambda name: store.rename(name, "new")):
        message = refusal(partial(act, "anna"))
        assert message.startswith("kept voice 'anna': ")
        assert reason in message
    store.remove("anna")
    assert store.ids() == []


def test_of_a_voice_that_is_far_too_long_nothing_is_sent(store: VoiceStore, redis: Redis) -> None:
    store.add(raf("berta"))
    size = 64 << 20
    redis.hset(VOICES_KEY, "anna", bytes(size))
    before = redis.info("stats")["total_net_output_bytes"]
    for act in (store.find, store.get, store.text, lambda name: store.rename(name, "new")):
        expected = f"kept voice 'anna': too long: {size} bytes; accepted: up to {MAX_RAF_BYTES} bytes"
        assert refusal(partial(act, "anna")) == expected
    assert [voice.id for voice in store.list()] == ["berta"]
    assert redis.info("stats")["total_net_output_bytes"] - before < 1 << 20


@pytest.mark.parametrize("name", ["", "../anna", "anna\n", "an na", "é", "\ud800", "x" * 10_000, "*", "\x00"])
def test_an_odd_id_is_unknown_and_cannot_be_given(store: VoiceStore, redis: Redis, name: str) -> None:
    store.add(raf())
    redis.set(tokens_key("job"), TOKENS.model_dump_json())
    for act in (store.get, store.text, store.remove, lambda odd: store.rename(odd, "new")):
        message = refusal(partial(act, name))
        assert message.endswith("; accepted: anna")
        assert len(message) < 500
    for give in (lambda odd: store.rename("anna", odd), lambda odd: store.keep("job", odd)):
        assert "accepted are 1 to 128 letters" in refusal(partial(give, name))
    assert store.ids() == ["anna"]


def test_an_error_lists_the_voices_but_not_thousands(store: VoiceStore) -> None:
    for number in range(30):
        store.add(raf(f"voice{number}"))
    message = refusal(lambda: store.remove("nobody"))
    assert len(re.findall(r"voice\d", message)) == 20
    assert message.endswith(", ...")


# Several at once.


def test_of_those_who_add_one_id_one_wins(store: VoiceStore) -> None:
    for _ in range(10):
        outcomes = at_once(lambda number: store.add(raf(name=str(number))))
        winners = [outcome for outcome in outcomes if isinstance(outcome, Voice)]
        assert len(winners) == 1
        assert store.get("anna") == winners[0]
        assert all("there is one already" in str(outcome) for outcome in outcomes if outcome not in winners)
        store.remove("anna")


def test_of_those_who_rename_one_voice_one_wins_and_no_copy_is_left(store: VoiceStore) -> None:
    for _ in range(10):
        store.add(raf())
        outcomes = at_once(lambda number: store.rename("anna", f"new{number}"))
        (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Voice)]
        assert store.ids() == [winner.id]
        assert all("unknown voice 'anna'" in str(outcome) for outcome in outcomes if outcome != winner)
        store.remove(winner.id)


def test_of_voices_that_are_renamed_to_one_id_one_wins_and_none_is_lost(store: VoiceStore) -> None:
    for _ in range(10):
        for number in range(THREADS):
            store.add(raf(f"old{number}", semantic_tokens=[number]))
        outcomes = at_once(lambda number: store.rename(f"old{number}", "new"))
        assert sum(isinstance(outcome, Voice) for outcome in outcomes) == 1
        assert sorted(voice.semantic_tokens[0] for voice in store.list()) == [*range(THREADS)]
        for voice_id in store.ids():
            store.remove(voice_id)


def test_a_rename_does_not_bring_back_what_was_replaced_meanwhile(
    store: VoiceStore, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(raf())
    real = load_raf
    seen: list[str] = []

    def meddle(text: str) -> Voice:
        if not seen:
            seen.append(text)
            redis.hset(VOICES_KEY, "anna", raf(name="replaced"))
        return real(text)

    monkeypatch.setattr("rwkv_tts.voice_store.load_raf", meddle)
    assert store.rename("anna", "new").name == "replaced"
    assert store.ids() == ["new"]


# Rename.


@pytest.mark.parametrize(("name", "after"), [("示例", "示例"), ("anna", "berta")])
def test_a_renamed_voice_is_the_same_but_for_its_id_and_checksum(store: VoiceStore, name: str, after: str) -> None:
    store.add(raf(name=name))
    store.rename("anna", "berta")
    assert store.text("berta") == raf("berta", name=after)
    assert store.ids() == ["berta"]


def test_a_rename_to_what_there_is_changes_nothing(store: VoiceStore) -> None:
    store.add(raf("anna"))
    store.add(raf("berta"))
    assert "'berta': there is one already" in refusal(lambda: store.rename("anna", "berta"))
    assert "there is one already" in refusal(lambda: store.rename("anna", "anna"))
    assert (store.text("anna"), store.text("berta")) == (raf("anna"), raf("berta"))


def test_a_hash_that_cannot_be_read_will_not_be_readable_the_next_time(store: VoiceStore, redis: Redis) -> None:
    redis.set(VOICES_KEY, "not a hash")
    assert "kept voices cannot be read: WRONGTYPE" in refusal(lambda: store.find("anna"))


# Keep.


def test_a_jobs_voice_is_kept_with_its_speech_and_words(store: VoiceStore, redis: Redis) -> None:
    redis.set(tokens_key("job"), TOKENS.model_dump_json())
    voice = store.keep("job", "anna")
    assert voice == store.get("anna")
    assert (voice.id, voice.name, voice.prompt_text) == ("anna", "anna", "héllo")
    assert (voice.global_tokens, voice.semantic_tokens) == ([*range(32)], [8191, 0, 7])
    assert (voice.audio_duration, voice.sample_rate) == (1.1, 16000)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z", voice.created_at)
    assert "there is one already" in refusal(lambda: store.keep("job", "anna"))
    assert store.keep("job", "berta").global_tokens == voice.global_tokens


def test_a_job_without_tokens_has_nothing_to_keep(store: VoiceStore, redis: Redis) -> None:
    assert "job 'job': its voice is not there; accepted: a finished job" in refusal(
        lambda: store.keep("job", "anna")
    )
    for forged in ("{}", "[", '{"globals": "x"}', TOKENS.model_dump_json().replace("1.1", "NaN")):
        redis.set(tokens_key("job"), forged)
        assert "job 'job': its voice is not readable" in refusal(lambda: store.keep("job", "anna"))
    assert store.ids() == []


@pytest.mark.parametrize("seconds", [1 / 3, 40.96, 0.02, 5, 2.7800000000000002])
def test_a_length_has_the_digits_that_rust_writes(seconds: float) -> None:
    """There it is a float32, and the loader computes the checksum of what it would write itself."""
    voice = kept_voice("anna", TOKENS.model_copy(update={"seconds": seconds}))
    assert repr(voice.audio_duration) == str(np.float32(seconds))
    assert np.float32(voice.audio_duration) == np.float32(seconds)


@pytest.mark.parametrize(
    ("nanoseconds", "shown"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_760_448_269_757_840_800, "2025-10-14T13:24:29.757840800Z"),
        (1_760_448_269_757_840_000, "2025-10-14T13:24:29.757840Z"),
        (1_760_448_269_750_000_000, "2025-10-14T13:24:29.750Z"),
        (1_760_448_269_000_000_001, "2025-10-14T13:24:29.000000001Z"),
        (1_760_448_269_000_001_000, "2025-10-14T13:24:29.000001Z"),
    ],
)
def test_a_time_is_written_as_chrono_does(nanoseconds: int, shown: str) -> None:
    assert _timestamp(nanoseconds) == shown
