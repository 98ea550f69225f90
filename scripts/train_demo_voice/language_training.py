"""Trains the language model for a budget of time, keeps the weights that validate best, and exports them."""

import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import HEAD_SIZE
from model.rwkv7 import DECAY_SCALE
from train_demo_voice.budget import Budget
from train_demo_voice.language_data import (
    IGNORE,
    NEXT_PHONE,
    PHONE,
    START,
    TARGET,
    TOKEN,
    Loader,
    Mixture,
    Pack,
    Utterances,
    empty_pack,
    validation_packs,
)
from train_demo_voice.language_model import (
    LAYOUT,
    RESET,
    LanguageModel,
    ModelSizes,
    Pointwise,
    chunked_wkv,
    compiled_pointwise,
    naive_wkv,
)
from train_demo_voice.muon import FlatOptimizer, FlatParameters, Rates

MEASURES = ("globals", "semantic", "eos", "phone", "next phone")
"""Cross-entropies, in nats: of the voice tokens, the speech tokens, its end, the current and the next phone."""

WARM_UP_STEPS = 3
STEPS_IN_FLIGHT = 2
RESTART_VARIABLE = "TRAIN_DEMO_VOICE_RESTART"
"""Set when a capture failed and the program starts again: what to leave out now, and when the call has to end."""


@dataclass(frozen=True)
class LanguageOptions:
    """How to train.

    Attributes:
        rows, length: Shape of a pack, in tokens; ``length`` bounds a sequence.
        phone_weight: Of the current and of the next phone's cross-entropy in the loss.
        warm_up, level: Shares of the schedule: the learning rate rises, stays, and falls as a cosine.
        floor: Learning rate at the schedule's end, as a share of its height.
        graph: Run a step as one CUDA graph.
        compiled: Fuse the pointwise parts with torch.compile; as written where that fails.
        workers: Processes that assemble packs.
    """

    sizes: ModelSizes = field(default_factory=ModelSizes)
    mixture: Mixture = field(default_factory=Mixture)
    rates: Rates = field(default_factory=Rates)
    rows: int = 16
    length: int = 2048
    phone_weight: float = 0.3
    clip: float = 1.0
    warm_up: float = 0.01
    level: float = 0.3
    floor: float = 0.03
    graph: bool = True
    compiled: bool = True
    workers: int = 4
    log_seconds: float = 10.0
    validation_seconds: float = 45.0
    seed: int = 0

    def factor(self, progress: float) -> float:
        """What the schedule makes of the learning rates at ``progress`` (0..1)."""
        if progress < self.warm_up:
            return progress / self.warm_up
        fallen = max(0.0, progress - self.level) / (1 - self.level)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * fallen)) / 2


TOY = LanguageOptions(
    sizes=ModelSizes(
        layers=2, width=64, ffn=128, rank_w=8, rank_a=8, rank_v=8, rank_g=8, phone_block=1, dropout=0.0
    ),
    rows=2,
    length=128,
    compiled=False,
    workers=0,
    log_seconds=1.0,
    validation_seconds=1000.0,
)
"""Trains on a CPU in seconds, on utterances of a second or less."""


def measure(model: LanguageModel, planes: Tensor) -> Tensor:
    """Sums and counts of the MEASURES over a pack, float32 [2, 5].

    Args:
        planes: int16 [PLANES, rows, length].
    """
    logits, phones = model(planes[TOKEN].long(), planes[START].bool())
    target = planes[TARGET].long()
    token = planes[TOKEN].long()
    errors = _errors(logits, target)
    voice = (target != IGNORE) & (token >= LAYOUT.tag_text_end) & (token != LAYOUT.tag_speech)
    end = target == LAYOUT.eos
    speech = (target != IGNORE) & ~voice & ~end
    sums, counts = [], []
    for mask in (voice, speech, end):
        sums.append((errors * mask).sum())
        counts.append(mask.sum())
    for i, plane in enumerate((planes[PHONE].long(), planes[NEXT_PHONE].long())):
        sums.append(_errors(phones[:, :, i], plane).sum())
        counts.append((plane != IGNORE).sum())
    return torch.stack([torch.stack(sums), torch.stack(counts).float()])


def _errors(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropies [rows, length], 0 where there is no target."""
    flat = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), ignore_index=IGNORE, reduction="none")
    return flat.view(target.shape)


def objective(measured: Tensor, phone_weight: float) -> Tensor:
    """The loss of a pack from its sums and counts: per token, plus the weighted phone losses."""
    sums, counts = measured
    phones = sums[3:] / counts[3:].clamp(min=1)
    total: Tensor = sums[:3].sum() / counts[:3].sum().clamp(min=1) + phone_weight * phones.sum()
    return total


class Trainer:
    """The model, its optimiser and one training step over static memory, which may be a CUDA graph."""

    def __init__(self, options: LanguageOptions, device: torch.device) -> None:
        torch.manual_seed(options.seed)
        self.options, self.device = options, device
        self.model = LanguageModel(options.sizes).to(device)
        if device.type == "cuda":
            self.model.dtype, self.model.wkv = torch.bfloat16, chunked_wkv
        self.pointwise = compiled_pointwise() if options.compiled else Pointwise()
        self.model.pointwise = self.pointwise
        self.flat = flatten(self.model)
        self.optimizer = FlatOptimizer(self.flat, options.rates)
        self.steps = 0
        self._planes = torch.from_numpy(empty_pack(options.rows, options.length)).to(device)
        self._sums = torch.zeros(2, len(MEASURES), device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._in_flight: deque[torch.cuda.Event] = deque()

    def prepare(self, packs: Sequence[Pack]) -> None:
        """Make everything ready: compile, then capture the step; ``packs`` are trained on meanwhile.

        Raises:
            CaptureError: The capture failed; the device cannot be used in this process any more.
        """
        self.model.train()
        try:
            self._warm_up(packs)
        except (RuntimeError, TypeError, AssertionError, OSError) as error:
            if not self.options.compiled:
                raise
            print(f"language: not compiled, {type(error).__name__}: {error}", flush=True)
            self.pointwise = self.model.pointwise = Pointwise()
            self._warm_up(packs)
        if self.device.type == "cuda" and self.options.graph:
            self._capture()

    def step(self, pack: Pack, factor: float) -> None:
        """Train on one pack with the learning rates times ``factor``; does not wait for a GPU's result."""
        planes = torch.from_numpy(pack)
        if self.device.type == "cuda":
            planes = planes.pin_memory()
        self._planes.copy_(planes, non_blocking=True)
        self.optimizer.factor.fill_(factor)
        if self._graph is None:
            self._update()
        else:
            self._graph.replay()
        self.steps += 1
        self._throttle()

    def averages(self) -> dict[str, float]:
        """The MEASURES since the last call."""
        result = _averages(self._sums)
        self._sums.zero_()
        return result

    @torch.no_grad()
    def validate(self, packs: Sequence[Pack]) -> dict[str, float]:
        """The MEASURES of the present weights."""
        self.model.eval()
        self.model.pointwise = Pointwise()
        sums = torch.zeros_like(self._sums)
        for pack in packs:
            sums += measure(self.model, torch.from_numpy(pack).to(self.device))
        self.model.pointwise = self.pointwise
        self.model.train()
        return _averages(sums)

    @contextmanager
    def weights(self, values: Tensor) -> Iterator[None]:
        """Put other weights (flat, float32 [N]) into the model for a while."""
        own = self.flat.values.clone()
        self.flat.values.copy_(values)
        try:
            yield
        finally:
            self.flat.values.copy_(own)

    def _update(self) -> None:
        self.flat.gradients.zero_()
        measured = measure(self.model, self._planes)
        objective(measured, self.options.phone_weight).backward()  # type: ignore[no-untyped-call]
        self.flat.clip(self.options.clip)
        with torch.no_grad():
            self.optimizer.step()
            self._sums += measured.detach()

    def _warm_up(self, packs: Sequence[Pack]) -> None:
        for pack in packs:
            self.step(pack, 0.0)

    def _capture(self) -> None:
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=torch.cuda.current_stream(), capture_error_mode="thread_local"):
                self._update()
        except RuntimeError as error:
            raise CaptureError(str(error)) from error
        self._graph = graph

    def _throttle(self) -> None:
        """Keep the host a few steps ahead of the device, so that the clock tells the truth."""
        if self.device.type != "cuda":
            return
        self._in_flight.append(torch.cuda.Event())  # type: ignore[no-untyped-call]
        self._in_flight[-1].record()
        if len(self._in_flight) > STEPS_IN_FLIGHT:
            self._in_flight.popleft().synchronize()


class CaptureError(RuntimeError):
    """A CUDA graph could not be captured."""


def flatten(model: LanguageModel) -> FlatParameters:
    """Move the model's parameters into one vector; its blocks' projections are the hidden matrices."""
    named = dict(model.named_parameters())
    hidden = [name for name in named if name.startswith("blocks.") and named[name].ndim == 2 and "weight" in name]
    return FlatParameters.of([named[n] for n in hidden], [p for n, p in named.items() if n not in set(hidden)])


def _averages(sums: Tensor) -> dict[str, float]:
    values = (sums[0] / sums[1].clamp(min=1)).tolist()
    return dict(zip(MEASURES, values, strict=True))


@dataclass
class Progress:
    """What a run keeps beside the trainer's tensors: seconds trained, and the best weights so far."""

    spent: float = 0.0
    best_loss: float = math.inf
    best: Tensor | None = None

    def consider(self, loss: float, values: Tensor) -> bool:
        """Keep a copy of the weights if their loss is the lowest so far."""
        if not loss < self.best_loss:
            return False
        self.best_loss, self.best = loss, values.clone()
        return True


def train_language(
    work: Path,
    total_seconds: float,
    limit_seconds: float,
    device: str,
    options: LanguageOptions = LanguageOptions(),
) -> None:
    """Train from ``work/corpus`` and ``work/tokens``, go on where the last call stopped, and export.

    Writes ``work/language/language.pt`` and ``work/language/rwkv7.safetensors``.

    Args:
        total_seconds: Length of the schedule.
        limit_seconds: This call ends after so long.
    """
    options, limit_seconds = _after_restart(options, limit_seconds)
    budget = Budget(total_seconds, limit_seconds)
    _train(work, budget, torch.device(device), options)


def _train(work: Path, budget: Budget, device: torch.device, options: LanguageOptions) -> None:
    utterances = Utterances.training(work)
    validation = validation_packs(Utterances.validation(work), options.rows, options.length)
    path = work / "language" / "language.pt"
    saved = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
    seed = (options.seed, saved["steps"] if saved else 0)
    print(f"language: {len(utterances)} utterances, {len(validation)} packs to validate on", flush=True)
    loading = Loader(utterances, options.mixture, options.rows, options.length, options.workers, seed)
    with loading as loader, _stream(device):  # in this order: processes are forked before the device is used
        trainer = Trainer(options, device)
        progress = restore(trainer, saved)
        budget.spent = progress.spent
        if not budget.done():
            _prepare(trainer, loader, budget)
            budget.restart()
            _run(trainer, loader, budget, validation, progress, path)
        export(trainer, progress, work / "language" / "rwkv7.safetensors")


def _prepare(trainer: Trainer, loader: Loader, budget: Budget) -> None:
    started = time.monotonic()
    try:
        trainer.prepare([loader.get() for _ in range(WARM_UP_STEPS)])
    except CaptureError as error:
        print(f"language: capture failed: {error}", flush=True)
        loader.close()
        _restart(trainer.options, budget.limit_seconds)
    trainer.averages()
    print(f"language: ready after {time.monotonic() - started:.1f} s", flush=True)


def _restart(options: LanguageOptions, limit_seconds: float) -> None:
    """Start this program again, for a failed capture leaves the device unusable: first without compiled parts,
    then without the graph too."""
    simpler = "compiled" if options.compiled else "graph"
    os.environ[RESTART_VARIABLE] = f"{simpler} {time.time() + limit_seconds}"
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606


def _after_restart(options: LanguageOptions, limit_seconds: float) -> tuple[LanguageOptions, float]:
    if RESTART_VARIABLE not in os.environ:
        return options, limit_seconds
    simpler, until = os.environ.pop(RESTART_VARIABLE).split()
    print(f"language: again, without {simpler}", flush=True)
    options = replace(options, compiled=False, graph=options.graph and simpler != "graph")
    return options, min(limit_seconds, float(until) - time.time())


def _run(
    trainer: Trainer,
    loader: Loader,
    budget: Budget,
    validation: Sequence[Pack],
    progress: Progress,
    path: Path,
) -> None:
    options = trainer.options
    logged = validated = time.monotonic()
    logged_steps = trainer.steps
    while not budget.exhausted():
        trainer.step(loader.get(), options.factor(budget.progress()))
        now = time.monotonic()
        if now - logged >= options.log_seconds:
            rate = (trainer.steps - logged_steps) / (now - logged)
            head = f"language: step {trainer.steps}, {rate:.1f} it/s, {budget.progress():.1%}"
            print(f"{head}: {_line(trainer.averages())}", flush=True)
            logged, logged_steps = time.monotonic(), trainer.steps
        if now - validated >= options.validation_seconds:
            _validate(trainer, validation, progress)
            progress.spent = budget.trained()
            save(trainer, progress, path)
            validated = time.monotonic()
    progress.spent = budget.trained()
    _validate(trainer, validation, progress)
    save(trainer, progress, path)


def _validate(trainer: Trainer, packs: Sequence[Pack], progress: Progress) -> None:
    own = trainer.validate(packs)
    kept = progress.consider(own["semantic"], trainer.flat.values)
    with trainer.weights(trainer.optimizer.mean):
        mean = trainer.validate(packs)
    kept_mean = progress.consider(mean["semantic"], trainer.optimizer.mean)
    for name, measured, best in (("weights", own, kept), ("their mean", mean, kept_mean)):
        print(f"language: validation of {name}: {_line(measured)}{' (best)' if best else ''}", flush=True)


def _line(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in measured.items())


def save(trainer: Trainer, progress: Progress, path: Path) -> None:
    """Write a checkpoint atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    checkpoint = {
        "values": trainer.flat.values,
        "optimizer": trainer.optimizer.state(),
        "steps": trainer.steps,
        "spent": progress.spent,
        "best_loss": progress.best_loss,
        "best": progress.best,
    }
    torch.save(checkpoint, part)
    part.replace(path)


def restore(trainer: Trainer, saved: Mapping[str, Any] | None) -> Progress:
    """Bring a checkpoint back; a fresh start when there is none."""
    if saved is None:
        return Progress()
    trainer.flat.values.copy_(saved["values"])
    trainer.optimizer.load(saved["optimizer"])
    trainer.steps = saved["steps"]
    best = None if saved["best"] is None else saved["best"].to(trainer.device)
    return Progress(saved["spent"], saved["best_loss"], best)


def export(trainer: Trainer, progress: Progress, path: Path) -> None:
    """Write the best weights so far as float16 under the published names."""
    values = trainer.flat.values if progress.best is None else progress.best
    with trainer.weights(values):
        tensors = trainer.model.export()
    part = path.with_suffix(".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, part)
    part.replace(path)
    print(f"language: exported, validation semantic {progress.best_loss:.3f}", flush=True)


def warm(device: str, options: LanguageOptions = LanguageOptions()) -> None:
    """Compile all kernels into their caches, so that training starts at once; prints the time of a step."""
    place = torch.device(device)
    if place.type != "cuda":
        return
    started = time.monotonic()
    with _stream(place):
        print(f"language: kernel against the recurrence, relative error {wkv_error(place):.1e}", flush=True)
        trainer, pack = Trainer(options, place), noise_pack(options)
        trainer.prepare([pack] * WARM_UP_STEPS)
        torch.cuda.synchronize()
        ready = time.monotonic()
        for _ in range(20):
            trainer.step(pack, 0.1)
        torch.cuda.synchronize()
    step = (time.monotonic() - ready) / 20
    print(f"language: kernels ready after {ready - started:.0f} s; {step * 1e3:.1f} ms a step", flush=True)


def wkv_error(device: torch.device) -> float:
    """Relative error of the kernel's bfloat16 outputs against the plain recurrence, with sequences in a row."""
    random = torch.Generator().manual_seed(0)
    r, decay, k, v, removal = torch.randn(5, 2, 96, 2, HEAD_SIZE, generator=random).to(device).unbind()
    decay = -DECAY_SCALE * decay.sigmoid()
    removal = F.normalize(removal, dim=-1)
    replacement = removal * -0.7
    decay[:, [0, 21, 64]], removal[:, [0, 21, 64]] = RESET, 0.0
    exact = naive_wkv(r, decay, k, v, removal, replacement)
    r, k, v, removal, replacement = (t.bfloat16() for t in (r, k, v, removal, replacement))
    return float((chunked_wkv(r, decay, k, v, removal, replacement).float() - exact).norm() / exact.norm())


def noise_pack(options: LanguageOptions) -> Pack:
    """Random tokens in sequences of 256."""
    random = np.random.default_rng(0)
    pack = empty_pack(options.rows, options.length)
    pack[TOKEN] = random.integers(LAYOUT.vocabulary_size, size=pack[TOKEN].shape)
    pack[TARGET] = random.integers(LAYOUT.head_size, size=pack[TARGET].shape)
    pack[PHONE] = pack[NEXT_PHONE] = random.integers(40, size=pack[PHONE].shape)
    pack[START, :, ::256] = 1
    return pack


def _stream(device: torch.device) -> AbstractContextManager[Any]:
    """One side stream for everything: a graph can be captured on no other than where its gradients were born."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]
