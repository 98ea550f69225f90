"""The one vocabulary that semantic tokens, tags, voice tokens and text share."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLayout:
    """Where each kind of token lives: ``semantic | EOS | 3 tags | globals | text | attribute tokens``.

    The defaults are those of the published RWKV-TTS checkpoints. ``text_size`` counts the ids of the text
    tokenizer, so the attribute ("special control") tokens start right after them.
    """

    semantic_size: int = 8192
    global_size: int = 4096
    globals_per_voice: int = 32
    text_size: int = 65531
    control_size: int = 100

    @property
    def eos(self) -> int:
        """Ends the semantic phase; the last id that the head can produce."""
        return self.semantic_size

    @property
    def head_size(self) -> int:
        """Rows of the output head that can be sampled: the semantic tokens and EOS."""
        return self.semantic_size + 1

    @property
    def tag_text_end(self) -> int:
        """TTS_TAG_0: the text ends here and the voice begins."""
        return self.semantic_size + 1

    @property
    def tag_speech(self) -> int:
        """TTS_TAG_1: the voice ends here and speech begins."""
        return self.semantic_size + 2

    @property
    def tag_text(self) -> int:
        """TTS_TAG_2: text begins here."""
        return self.semantic_size + 3

    @property
    def global_offset(self) -> int:
        return self.semantic_size + 4

    @property
    def text_offset(self) -> int:
        return self.global_offset + self.global_size

    @property
    def control_offset(self) -> int:
        """Id of SPCT_0, the first attribute token."""
        return self.text_offset + self.text_size

    @property
    def vocabulary_size(self) -> int:
        """Ids with attribute tokens included (77 923 in the published voice-tunable checkpoints)."""
        return self.control_offset + self.control_size
