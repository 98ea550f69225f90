"""Token lists in, numpy waveforms out: the codec as a worker sees it."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
        lookahead: int | None = None,
        alone: bool = False,
    ) -> list[npt.NDArray[np.float32]]:
        """Decode B utterances, or a span of each.

        Args:
            semantic: B lists of at least one semantic id, each from the utterance's first on.
            voices: B lists of the ``BiCodec.globals_per_voice`` global ids of a voice.
            spans: The tokens of each whose samples are wanted, all of them when None; see ``codec.streaming``.
            lookahead: Tokens after its span that are looked at; all that matter when None.
            alone: Whether nothing else computes; with compiled code several threads may then.

        Returns:
            B arrays float32 [tokens * hop] in [-1, 1].

        Raises:
            ValueError: An id is out of range, a list is empty, a voice is of a wrong length, or a span is empty or
                not within its utterance.
        """
        ids = torch.from_numpy(np.fromiter(chain.from_iterable(semantic), np.int64))
        rows = torch.split(ids, [len(tokens) for tokens in semantic])
        with torch.cuda.stream(self._stream):
            ids_of_voices = torch.tensor([list(voice) for voice in voices])
            waves = self._codec.decode(rows, ids_of_voices, spans, lookahead, alone)
            samples = self._on_host(torch.cat(waves))
        ends = np.cumsum([len(wave) for wave in waves])
        return np.split(samples, ends[:-1])

    def _on_host(self, samples: Tensor) -> npt.NDArray[np.float32]:
        """One copy from a GPU for all, to memory that it reaches itself."""
        host = torch.empty(samples.shape, dtype=samples.dtype, pin_memory=samples.is_cuda)
        host.copy_(samples)
        return host.numpy()
