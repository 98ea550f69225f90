"""RAF files of a voice."""

from typing import Any

from rwkv_tts.voices import dump_raf


def raf(voice_id: str = "anna", **changes: Any) -> str:
    """The text of a file; ``changes`` replace fields."""
    fields = {
        "id": voice_id,
        "name": "示例",
        "prompt_text": "Wie geht's?\n\x1b[31m",
        "created_at": "2025-10-14T13:24:29.757840800Z",
        "global_tokens": [*range(32)],
        "semantic_tokens": [5, 6],
        "audio_duration": 5.2,
        "sample_rate": 16000,
    }
    return dump_raf({**fields, **changes})
