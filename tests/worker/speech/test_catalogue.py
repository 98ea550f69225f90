"""All voices that a model speaks with: its directory's, and those that are kept in a real Redis."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from raf import raf
from rwkv_tts.voice_store import VoiceStore
from rwkv_tts.voices import MAX_RAF_BYTES, VoiceError, load_raf
from sampler.layout import TokenLayout
from worker.speech.catalogue import VoiceCatalogue, check_tokens, read_voices

LAYOUT = TokenLayout()
GLOBALS = [*range(32)]


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(VoiceError) as caught:
        act()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.fixture
def store(redis_url: str) -> Iterator[VoiceStore]:
    """An empty database of the shared server."""
    connection = Redis.from_url(f"{redis_url}?db=11")
    connection.flushdb()
    yield VoiceStore(connection)
    connection.flushdb()


def catalogue(directory: Path) -> VoiceCatalogue:
    return VoiceCatalogue(read_voices(directory, LAYOUT), LAYOUT)


@pytest.mark.parametrize(
    "tokens", [[], GLOBALS[:31], [*GLOBALS, 1], [4096, *GLOBALS[1:]], [-1, *GLOBALS[1:]], [2**70, *GLOBALS[1:]]]
)
def test_wrong_global_tokens_are_refused(tokens: list[int]) -> None:
    message = refusal(lambda: check_tokens(load_raf(raf(global_tokens=tokens)), LAYOUT))
    assert "global_tokens" in message
    assert "32 values in 0..4095" in message


@pytest.mark.parametrize("token", [8192, -1, 2**70])
def test_wrong_semantic_tokens_are_refused(token: int) -> None:
    message = refusal(lambda: check_tokens(load_raf(raf(semantic_tokens=[1, token])), LAYOUT))
    assert "semantic_tokens" in message
    assert "0..8191" in message


def test_limits_are_those_of_the_layout() -> None:
    small = TokenLayout(semantic_size=10, global_size=8, globals_per_voice=2)
    check_tokens(load_raf(raf(global_tokens=[0, 7], semantic_tokens=[9])), small)
    with pytest.raises(VoiceError, match=r"2 values in 0\.\.7"):
        check_tokens(load_raf(raf(global_tokens=[0, 8], semantic_tokens=[9])), small)


def write(directory: Path, name: str, text: str) -> None:
    (directory / f"{name}.raf.json").write_text(text, encoding="utf-8")


def test_the_directory_finds_voices_by_id_and_lists_them_when_one_is_unknown(tmp_path: Path) -> None:
    for voice_id in ("beta", "alpha"):
        write(tmp_path, voice_id, raf(voice_id))
    (tmp_path / "notes.json").write_text("{}")
    library = catalogue(tmp_path)
    assert [voice.id for voice in library] == ["alpha", "beta"]
    assert library.get("beta").id == "beta"
    for name in ("gamma", "../alpha", "ALPHA", "x" * 10_000, "a\nb"):
        with pytest.raises(VoiceError, match="accepted: alpha, beta") as caught:
            library.get(name)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)


def test_the_directory_of_an_absent_folder_is_empty(tmp_path: Path) -> None:
    library = catalogue(tmp_path / "none")
    assert list(library) == []
    with pytest.raises(VoiceError, match="none is stored"):
        library.get("first")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"{}", b"[" * 100_000])
def test_the_directory_names_the_file_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "alpha", raf("alpha"))
    (tmp_path / "broken.raf.json").write_bytes(content)
    with pytest.raises(VoiceError, match=r"^broken\.raf\.json: "):
        read_voices(tmp_path, LAYOUT)


def test_a_file_is_read_as_far_as_a_voice_may_be_long(tmp_path: Path) -> None:
    fits = raf() + "\n" * (MAX_RAF_BYTES - len(raf().encode()))
    write(tmp_path, "long", fits)
    assert [voice.id for voice in read_voices(tmp_path, LAYOUT)] == ["anna"]
    write(tmp_path, "long", fits + "\n")
    with pytest.raises(VoiceError, match=rf"^long\.raf\.json: .*too long; accepted: up to {MAX_RAF_BYTES} bytes"):
        read_voices(tmp_path, LAYOUT)


def test_an_unknown_voice_is_told_of_some_others_only(tmp_path: Path) -> None:
    for number in range(30):
        write(tmp_path, f"{number:02}", raf(f"voice{number:02}"))
    with pytest.raises(VoiceError, match=r"accepted: voice00, .*voice19, \.\.\.$"):
        catalogue(tmp_path).get("nobody")


def test_two_files_with_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "one", raf("same"))
    write(tmp_path, "two", raf("same", name="Other"))
    with pytest.raises(VoiceError, match=r"two\.raf\.json: .*'same'"):
        read_voices(tmp_path, LAYOUT)


def test_another_connection_sees_each_change_at_once(store: VoiceStore, redis_url: str) -> None:
    other = VoiceCatalogue([], LAYOUT, VoiceStore(Redis.from_url(f"{redis_url}?db=11")))
    assert "unknown voice 'anna'; accepted: none is stored" in refusal(lambda: other.get("anna"))
    store.add(raf())
    assert other.get("anna").name == "示例"
    store.rename("anna", "berta")
    assert "accepted: berta" in refusal(lambda: other.get("anna"))
    assert other.get("berta").semantic_tokens == [5, 6]
    store.remove("berta")
    refusal(lambda: other.get("berta"))


def test_a_kept_voice_has_precedence_over_the_model_directory(store: VoiceStore) -> None:
    own = load_raf(raf("first", name="own"))
    voices = VoiceCatalogue([own], LAYOUT, store)
    assert voices.get("first") == own
    store.add(raf("first", name="kept"))
    assert voices.get("first").name == "kept"
    store.add(raf("anna"))
    assert "unknown voice 'nobody'; accepted: first, anna" in refusal(lambda: voices.get("nobody"))
    store.remove("first")
    assert voices.get("first") == own
    assert list(voices) == [own]


def test_without_a_store_there_are_the_model_directorys_voices() -> None:
    voices = VoiceCatalogue([load_raf(raf("first"))], LAYOUT)
    assert voices.get("first").id == "first"
    assert "accepted: first" in refusal(lambda: voices.get("anna"))


def test_an_outage_is_not_mistaken_for_an_unknown_voice(tmp_path: Path) -> None:
    away = VoiceStore(Redis(unix_socket_path=str(tmp_path / "none.sock")))
    with pytest.raises(RedisConnectionError):
        VoiceCatalogue([load_raf(raf("first"))], LAYOUT, away).get("first")


def test_a_kept_voice_for_another_model_is_refused_by_name(store: VoiceStore) -> None:
    store.add(raf(global_tokens=[4096] * 32))
    message = refusal(lambda: VoiceCatalogue([], LAYOUT, store).get("anna"))
    assert message == "kept voice 'anna': voice 'anna': global_tokens must be 32 values in 0..4095"
