"""Token lists in, numpy waveforms out: the codec as a worker sees it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from codec.bicodec import BiCodec
from codec.streaming import Span


class Vocoder:
    """Decodes batches of utterances of unequal length; each is what it would be alone.

    On a GPU it works on a stream of its own, which other streams do not wait for.

    Args:
        codec: Needs no encoder.

    Attributes:
        sample_rate: Of the audio, in hertz.
    """

    def __init__(self, codec: BiCodec) -> None:
        self._codec = codec
        self.sample_rate = codec.sample_rate
        self._stream = torch.cuda.Stream(codec.device) if codec.device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def __call__(
        self,
        semantic: Sequence[Sequence[int]],
        voices: Sequence[Sequence[int]],
        spans: Sequence[Span] | None = None,
    ) -> list[npt.NDArray[np.float32]]:
        """Decode B utterances, or a span of each.

        Args:
            semantic: B lists of at least one semantic id, each from the utterance's first on.
            voices: B lists of the ``BiCodec.globals_per_voice`` global ids of a voice.
            spans: The tokens of each whose samples are wanted, all of them when None; see ``codec.streaming``.

        Returns:
            B arrays float32 [tokens * hop] in [-1, 1].

        Raises:
            ValueError: An id is out of range, a list is empty, a voice is of a wrong length, or a span is empty or
                not within its utterance.
        """
        ids = [torch.tensor(tokens) for tokens in semantic]
        with torch.cuda.stream(self._stream):
            waves = self._codec.decode(ids, torch.tensor([list(voice) for voice in voices]), spans)
            return [wave.cpu().numpy() for wave in waves]
