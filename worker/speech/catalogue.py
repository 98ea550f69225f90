"""All voices that a model can speak with: its directory's own, and those that are kept in Redis."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from rwkv_tts.voice_store import FetchedVoices, VoiceStore
from rwkv_tts.voices import LISTED, Voice, VoiceError, load_raf, read_raf, unknown_voice
from sampler.layout import TokenLayout


class VoiceCatalogue:
    """Finds voices by id; one that is kept in Redis has precedence over the model's own of the same id.

    A voice is looked up in Redis each time, or once for several requests (``now``), so a new, renamed or removed
    one counts at once.

    Args:
        own: The model's, which iterating gives.
        layout: What the tokens of every voice must fit.
        store: None without Redis.
    """

    def __init__(
        self, own: Iterable[Voice], layout: TokenLayout, store: VoiceStore | FetchedVoices | None = None
    ) -> None:
        self._own = {voice.id: voice for voice in own}
        self._layout = layout
        self._store = store

    def __iter__(self) -> Iterator[Voice]:
        return iter(self._own.values())

    def now(self, voice_ids: Iterable[str]) -> "VoiceCatalogue":
        """The same with what Redis keeps under these ids at this moment, fetched in one round trip.

        Raises:
            redis.exceptions.RedisError: Redis is away.
        """
        store = self._store.fetch(voice_ids) if isinstance(self._store, VoiceStore) else self._store
        return VoiceCatalogue(self, self._layout, store)

    def get(self, voice_id: str) -> Voice:
        """Look a voice up by id.

        Raises:
            VoiceError: There is none, and the message lists those there are; or the one there is cannot be used.
            redis.exceptions.RedisError: Redis is away.
        """
        voice = self._kept(voice_id) or self._own.get(voice_id)
        if voice is None:
            kept = self._store.some_ids(LISTED + 1) if self._store else []
            raise unknown_voice(voice_id, dict.fromkeys([*self._own, *kept]))
        return voice

    def _kept(self, voice_id: str) -> Voice | None:
        voice = self._store.find(voice_id) if self._store else None
        if voice is None:
            return None
        try:
            check_tokens(voice, self._layout)
        except VoiceError as error:
            raise VoiceError(f"kept voice {voice_id!r}: {error}") from error
        return voice


def read_voices(directory: Path, layout: TokenLayout) -> list[Voice]:
    """Every ``*.raf.json`` of a directory, which may be absent.

    Raises:
        VoiceError: A file cannot be used; the message names it.
    """
    voices: dict[str, Voice] = {}
    for path in sorted(directory.glob("*.raf.json")):
        try:
            voice = load_raf(read_raf(path))
            check_tokens(voice, layout)
        except VoiceError as error:
            raise VoiceError(f"{path.name}: {error}") from error
        if voice.id in voices:
            raise VoiceError(f"{path.name}: another file has a voice {voice.id!r}, too")
        voices[voice.id] = voice
    return list(voices.values())


def check_tokens(voice: Voice, layout: TokenLayout) -> None:
    """Refuse a voice that was made for another model.

    Raises:
        VoiceError: Its tokens do not fit the layout.
    """
    tokens = voice.global_tokens
    if len(tokens) != layout.globals_per_voice or not all(0 <= t < layout.global_size for t in tokens):
        raise VoiceError(
            f"voice {voice.id!r}: global_tokens must be {layout.globals_per_voice} values "
            f"in 0..{layout.global_size - 1}"
        )
    if not all(0 <= t < layout.semantic_size for t in voice.semantic_tokens):
        raise VoiceError(f"voice {voice.id!r}: semantic_tokens must be in 0..{layout.semantic_size - 1}")
