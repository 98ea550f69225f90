"""Where the published models are on Hugging Face."""

from collections.abc import Mapping

CODEC_REPOSITORY = "SparkAudio/Spark-TTS-0.5B"

PUBLISHED: Mapping[str, str] = {
    "respark-0.4b": "yueyulin/respark/rwkv7-0.4B-g1-respark-voice-tunable",
    "respark-0.4b-ipa": "yueyulin/respark/rwkv7-0.4B-g1-respark-voice-tunable_ipa",
    "respark-0.4b-ipa-10k": "yueyulin/respark/rwkv7-0.4B-g1-respark-voice-tunable_ipa_10k",
    "respark-webrwkv": "yueyulin/respark/rwkvtts-respark-webrwkv",
    "rwkv-tts-rs": "cgisky/rwkv-tts",
}
"""Language models, each a repository or a folder of one; all speak through the codec of that one."""
