"""The corpus as codec tokens: what the language model learns to write.

The same tokens as `codec.bicodec.BiCodec` gives for one utterance after the other, many at a time.
"""

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.bicodec import BiCodec
from codec.clip import CLIP_SECONDS
from codec.layers import length_mask, loaded
from train_demo_voice.codec_data import FULL_SCALE
from train_demo_voice.corpus import Shard, training_shards, validation_shard

ROWS = 256
EXTRA_FRAMES = 2
READ_AHEAD = 16
LOG_SECONDS = 10.0

CODEC_DIRECTORY = Path("codec") / "bicodec"


def tokens_path(work: Path, shard: Path) -> Path:
    return work / "tokens" / shard.name


def untokenised(work: Path) -> list[Path]:
    """Corpus shards without tokens, the validation shard first."""
    shards = [validation_shard(work), *training_shards(work)]
    return [shard for shard in shards if shard.exists() and not tokens_path(work, shard).exists()]


@contextmanager
def full_precision() -> Iterator[None]:
    """Float32 without TF32, so that tokens do not depend on the device more than they must.

    Nor does cuDNN try algorithms out, which costs more than it gains where every batch has another shape.
    """
    cudnn = torch.backends.cudnn
    matmul, convolution, benchmark = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    torch.set_float32_matmul_precision("highest")
    cudnn.allow_tf32 = cudnn.benchmark = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, cudnn.benchmark = convolution, benchmark


class Tokeniser:
    """Tokens of a shard with one trained codec."""

    def __init__(self, codec: BiCodec) -> None:
        self.codec = codec
        self.hop = codec.hop

    @torch.inference_mode()
    def __call__(self, shard: Shard) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        """Semantic ids int16 [frames of the shard] and global ids int16 [n, globals_per_voice]."""
        device = self.codec.device
        audio = torch.from_numpy(shard.audio).to(device)
        offsets = torch.from_numpy(shard.offsets).to(device)
        semantic = torch.empty(len(audio) // self.hop, dtype=torch.int16, device=device)
        globals_ = torch.empty((len(shard), self.codec.globals_per_voice), dtype=torch.int16, device=device)
        lengths = np.diff(shard.offsets) // self.hop
        for rows in np.array_split(np.argsort(lengths, kind="stable"), -(-len(shard) // ROWS)):
            places = torch.from_numpy(rows).to(device)
            starts, ends = offsets[places], offsets[places + 1]
            ids, inside = self._semantic(audio, starts, lengths[rows].tolist())
            frames = (starts // self.hop)[:, None] + torch.arange(ids.shape[1], device=device)
            semantic[frames[inside]] = ids[inside].short()
            globals_[places] = self._globals(audio, starts, ends).short()
        return semantic.cpu().numpy(), globals_.cpu().numpy()

    def _semantic(self, audio: Tensor, starts: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
        """Ids int64 [B, T] and which of them are inside their row."""
        codec, device = self.codec, audio.device
        frames = torch.tensor(lengths, device=device)
        waves = reflected(audio, starts, frames * self.hop, EXTRA_FRAMES * self.hop)
        mel = loaded(codec.mel)(waves)[:, EXTRA_FRAMES : EXTRA_FRAMES + max(lengths)]
        inside = torch.arange(max(lengths), device=device) < frames[:, None]
        vectors = loaded(codec.encoder)(mel * inside[:, :, None], length_mask(lengths, device))
        return codec.quantizer.quantize(codec.quantizer.project(vectors)), inside

    def _globals(self, audio: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Global ids of what `codec.clip.voice_clip` makes of each utterance."""
        codec = self.codec
        size = CLIP_SECONDS * codec.sample_rate // self.hop * self.hop
        samples = torch.arange(size, device=audio.device) % (ends - starts)[:, None] + starts[:, None]
        return codec.speaker_encoder.quantize(loaded(codec.mel)(audio[samples].float() / FULL_SCALE))


def reflected(audio: Tensor, starts: Tensor, lengths: Tensor, margin: int) -> Tensor:
    """Waves float32 [B, longest + 2 * margin] that go on beyond both ends as mirror images.

    Frames of such a wave equal those of a wave alone, whose ends the spectrogram mirrors itself.
    """
    time = torch.arange(-margin, int(lengths.max()) + margin, device=audio.device).abs()
    last = (lengths - 1)[:, None]
    mirrored = (last - (last - time).abs()).clamp(min=0)
    return audio[starts[:, None] + mirrored].float() / FULL_SCALE


def save_tokens(path: Path, semantic: NDArray[np.int16], globals_: NDArray[np.int16]) -> None:
    """Write `path` atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, semantic=semantic, globals=globals_)
    part.replace(path)


def read_ahead(pool: ThreadPoolExecutor, shards: Sequence[Path]) -> Iterator[tuple[Path, Shard]]:
    """Shards in order, of which a few are read in advance."""
    futures: list[Future[Shard]] = []
    for i, path in enumerate(shards):
        ahead = shards[len(futures) : i + READ_AHEAD]
        futures.extend(pool.submit(Shard.load, later) for later in ahead)
        yield path, futures[i].result()
        futures[i] = Future()  # lets go of the shard


def tokenise(work: Path, device: torch.device | str = "cpu") -> int:
    """Write `work/tokens` for every corpus shard that has none; returns their number.

    Raises FileNotFoundError when no codec has been exported.
    """
    shards = untokenised(work)
    if not shards:
        return 0
    tokeniser = Tokeniser(BiCodec.load(work / CODEC_DIRECTORY, device, encoder=True))
    start = last_line = time.monotonic()
    with ThreadPoolExecutor(READ_AHEAD // 2) as pool, full_precision():
        for count, (path, shard) in enumerate(read_ahead(pool, shards), 1):
            save_tokens(tokens_path(work, path), *tokeniser(shard))
            if time.monotonic() - last_line > LOG_SECONDS or count == len(shards):
                last_line = time.monotonic()
                print(f"tokens: {count}/{len(shards)} shards, {last_line - start:.1f} s", flush=True)
    return len(shards)
