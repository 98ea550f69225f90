"""Where audio goes: beside the job's result in Redis, under keys of its own that live as long."""

from rwkv_tts.keys import audio_key, tokens_key
from rwkv_tts.voice_store import VoiceTokens


def attachments(job_id: str, audio: bytes, voice: VoiceTokens) -> dict[str, bytes]:
    """What to store with a finished job, by Redis key: what it takes to keep its voice, and its audio, if any.

    That of a stream is in its chunks, that which goes elsewhere in the store of the results.
    """
    stored = {tokens_key(job_id): voice.model_dump_json().encode()}
    return {audio_key(job_id): audio, **stored} if audio else stored
