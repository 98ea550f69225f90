"""Train the codec in two phases, each a schedule of seconds that any number of calls may share.

`spectral` trains all of it on spectral distances; its tokens are final. `adversarial` goes on with what decodes
them, against discriminators. Both draw crops from a corpus that lies on the device.
"""

import copy
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import cos, pi
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import get_ema_multi_avg_fn

from codec.bicodec import BiCodec
from train_demo_voice.budget import Budget
from train_demo_voice.codec_data import READERS, Crops, DeviceCorpus, ShardReader, read_tokens, validation_crops
from train_demo_voice.codec_losses import (
    PERIOD_WIDTHS,
    SPECTROGRAM_WIDTH,
    Discriminators,
    SpectralLoss,
    discriminator_loss,
    generator_loss,
    phone_accuracy,
    phone_loss,
    recordings_of,
)
from train_demo_voice.codec_model import DEMO_CONFIG, TrainingCodec, parameter_count, unit_vectors, write_codec
from train_demo_voice.corpus import Shard, training_shards, validation_shard
from train_demo_voice.cuda_graph import (
    WARM_UP_STEPS,
    CaptureError,
    GraphedStep,
    Pacer,
    restart_simpler,
    seconds_used,
    training_stream,
    use_graphs,
)
from train_demo_voice.speakers import PHONES
from train_demo_voice.tokens import CODEC_DIRECTORY, tokenise, tokens_path

PhaseName = Literal["spectral", "adversarial"]
State = dict[str, Any]

LOG_SECONDS = 10.0
VALIDATE_SECONDS = 60.0
CHECKPOINT_SECONDS = 120.0
LOOK_SECONDS = 10.0
FIRST_SHARD_SECONDS = 300.0

COMMITMENT = 0.25
PHONE_WEIGHT = 0.25
MEL_WEIGHT = 0.5
LATE_PHONE_WEIGHT = 0.1
SPECTRAL_WEIGHT = 12.0
MATCHING_WEIGHT = 2.0

KMEANS_ROUNDS = 20
USAGE_DECAY = 0.95
RARE_USAGE = 0.5
REVIVE_STEPS = 20

EXPORT_TOLERANCE = 0.05
EXPORT_ROWS, EXPORT_FRAMES = 4, 64


@dataclass(frozen=True)
class CodecOptions:
    """Sizes and schedules. Shares are of the phase's schedule, lengths in frames of 20 ms."""

    config: Mapping[str, Any] = field(default_factory=lambda: DEMO_CONFIG)
    seed: int = 0
    half_generator: bool = False
    batch: int = 48
    frames: int = 64
    reference_frames: int = 150
    learning_rate: float = 1e-3
    final_rate: float = 0.04
    warm_up: float = 0.02
    unquantised: float = 0.06
    revive_until: float = 0.7
    clip: float = 5.0
    kmeans_batches: int = 16
    adversarial_batch: int = 32
    adversarial_frames: int = 40
    adversarial_context: int = 12
    adversarial_rate: float = 4e-4
    adversarial_ramp: float = 0.1
    adversarial_clip: float = 50.0
    ema_decay: float = 0.999
    period_widths: tuple[int, ...] = PERIOD_WIDTHS
    spectrogram_width: int = SPECTROGRAM_WIDTH
    validation_batch: int = 64
    validation_frames: int = 128


def toy_config() -> Mapping[str, Any]:
    """The demo voice's structure at a size that a CPU trains in seconds."""
    config = copy.deepcopy(dict(DEMO_CONFIG))
    root = config["audio_tokenizer"]
    vocos = {"vocos_dim": 32, "vocos_intermediate_dim": 48, "vocos_num_layers": 1}
    root["encoder"] |= vocos | {"out_channels": 32}
    root["quantizer"] |= {"input_dim": 32, "codebook_size": 64}
    root["speaker_encoder"] |= {"out_dim": 32, "latent_dim": 8, "token_num": 4, "ecapa_channels": 8}
    root["prenet"] |= vocos | {"input_channels": 32, "out_channels": 32, "condition_dim": 32}
    root["decoder"] |= {"input_channel": 32, "channels": 32}
    return config


TOY = CodecOptions(
    config=toy_config(),
    batch=4,
    frames=16,
    reference_frames=20,
    learning_rate=3e-3,
    warm_up=0.05,
    unquantised=0.3,
    kmeans_batches=4,
    adversarial_batch=2,
    adversarial_frames=12,
    adversarial_context=4,
    period_widths=(4, 4, 8, 8, 8),
    spectrogram_width=4,
    validation_batch=4,
    validation_frames=32,
)


def scheduled_rate(progress: float, options: CodecOptions) -> float:
    """Learning rate as a share of its peak: linear warm-up, then half a cosine."""
    if progress < options.warm_up:
        return max(progress, 1e-3) / options.warm_up
    done = (progress - options.warm_up) / (1 - options.warm_up)
    return options.final_rate + (1 - options.final_rate) * (1 + cos(pi * done)) / 2


class Optimizer:
    """AdamW whose rate is a tensor, with clipping, that skips steps with gradients that are not finite."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, clip: float, device: torch.device) -> None:
        self.parameters = list(parameters)
        self.peak, self.clip = rate, clip
        self.rate = torch.tensor(rate, device=device)
        self.adamw = torch.optim.AdamW(
            self.parameters,
            lr=rate,
            betas=(0.8, 0.99),
            weight_decay=0.01,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._share_rate()

    def _share_rate(self) -> None:
        for group in self.adamw.param_groups:
            group["lr"] = self.rate

    def set_rate(self, share: float) -> None:
        self.rate.fill_(self.peak * share)

    def step(self, loss: Tensor) -> Tensor:
        """Minimise a loss by one step, without a look at it from the host. Returns the gradients' norm."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        norm: Tensor = nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        # What torch.amp.GradScaler does with optimizers that are fused: the kernel itself skips the step.
        self.adamw.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        self.adamw.step()
        return norm

    def forget(self, parameter: nn.Parameter, rows: Tensor) -> None:
        """Drop the running moments of rows, bool [n], of a parameter [n, ...]."""
        for name in ("exp_avg", "exp_avg_sq"):
            if name in self.adamw.state[parameter]:
                self.adamw.state[parameter][name].masked_fill_(rows.unsqueeze(1), 0)

    def state_dict(self) -> State:
        return self.adamw.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.adamw.load_state_dict(state)
        self._share_rate()


class Phase(Protocol):
    """What the loop needs of either phase."""

    net: TrainingCodec
    corpus: DeviceCorpus
    validation: "Validation"
    step_count: int

    def prepare(self, progress: float) -> None:
        """Fill the static inputs and set rates; runs before every step, eagerly."""

    def update(self) -> None:
        """One step on the static inputs, the same work every time."""

    def adapt(self, progress: float) -> None:
        """What a step's results decide; runs after every step, eagerly."""

    def losses(self) -> dict[str, float]: ...

    def validate(self) -> dict[str, float]: ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...

    def trained(self) -> BiCodec:
        """The codec to export."""

    def grow(self, shards: list[Shard]) -> None:
        """Take more training data, where that is possible."""


class Meter:
    """Named scalars that a step writes on the device and the log reads."""

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self.names = names
        self.values = torch.zeros(len(names), device=device)

    def write(self, *values: Tensor) -> None:
        self.values.copy_(torch.stack([value.detach().float() for value in values]))

    def read(self) -> dict[str, float]:
        return dict(zip(self.names, self.values.tolist(), strict=True))


class SpectralPhase:
    """The whole codec, end to end, on distances between spectra and on phones."""

    def __init__(self, work: Path, corpus: DeviceCorpus, options: CodecOptions, device: torch.device) -> None:
        self.corpus, self.options = corpus, options
        self.net = make_net(options, device)
        self.spectral = SpectralLoss(self.net.bicodec.sample_rate).to(device)
        self.optimizer = Optimizer(self.net.parameters(), options.learning_rate, options.clip, device)
        self.validation = load_validation(work, device, options)
        self.meter = Meter(("loss", "spectral", "vq", "phones", "mel", "norm"), device)
        self.step_count = 0
        self.quantising = False
        samples = self.net.bicodec.hop
        self.audio = torch.zeros(options.batch, options.frames * samples, device=device)
        self.reference = torch.zeros(options.batch, options.reference_frames * samples, device=device)
        self.phones = torch.zeros(options.batch, options.frames, dtype=torch.int64, device=device)
        self.share = torch.zeros((), device=device)
        codes, dims = self.net.bicodec.quantizer.codebook.weight.shape
        self.points = torch.zeros(options.batch, options.frames, dims, device=device)
        self.usage = torch.ones(codes, device=device)
        """Running mean of how often a step uses each code."""
        self.ones = torch.ones(options.batch * options.frames, device=device)

    def grow(self, shards: list[Shard]) -> None:
        self.corpus.add(shards)

    def prepare(self, progress: float) -> None:
        if not self.quantising and progress >= self.options.unquantised:
            self._start_quantising()
        self.optimizer.set_rate(scheduled_rate(progress, self.options))
        self._draw()

    def _draw(self) -> None:
        utterances, first = self.corpus.draw(self.options.batch, self.options.frames)
        crops = self.corpus.crop(utterances, first, self.options.frames)
        others = self.corpus.companions(utterances)
        self.audio.copy_(crops.audio)
        self.phones.copy_(crops.phones)
        self.reference.copy_(self.corpus.clips(others, self.options.reference_frames))

    def update(self) -> None:
        made = self.net(self.audio, self.reference, self.share, COMMITMENT)
        spectral = self.spectral(made.wave, self.audio)
        phones = phone_loss(made.phones, self.phones)
        mel = F.l1_loss(made.predicted_mel.float(), made.mel)
        late_phones = phone_loss(made.late_phones, self.phones)
        loss = spectral + made.quantized.loss + PHONE_WEIGHT * phones
        loss = loss + MEL_WEIGHT * mel + LATE_PHONE_WEIGHT * late_phones
        norm = self.optimizer.step(loss)
        self._count(made.quantized.ids)
        self.points.copy_(made.quantized.points.detach())
        self.meter.write(loss, spectral, made.quantized.loss, phones, mel, norm)

    def _count(self, ids: Tensor) -> None:
        used = torch.zeros_like(self.usage).scatter_add_(0, ids.flatten(), self.ones)  # bincount would wait
        self.usage.mul_(USAGE_DECAY).add_(used, alpha=1 - USAGE_DECAY)

    def adapt(self, progress: float) -> None:
        self.step_count += 1
        if self.quantising and self.step_count % REVIVE_STEPS == 0 and progress < self.options.revive_until:
            self._revive()

    @torch.no_grad()
    def _revive(self) -> None:
        """Move codes that are hardly used to random points of the last batch."""
        codebook = self.net.bicodec.quantizer.codebook.weight
        rare = self.usage < RARE_USAGE
        points = self.points.flatten(0, 1)
        chosen = points[torch.randint(len(points), (len(codebook),), device=points.device)]
        codebook.copy_(torch.where(rare.unsqueeze(1), chosen, codebook))
        self.usage.masked_fill_(rare, 1.0)
        self.optimizer.forget(cast(nn.Parameter, codebook), rare)

    @torch.no_grad()
    def _start_quantising(self) -> None:
        """Begin with the codebook at the means of what the encoder has come to."""
        codec = self.net.bicodec
        points = []
        for _ in range(self.options.kmeans_batches):
            self._draw()
            encoded = cast(nn.Module, codec.encoder)(cast(nn.Module, codec.mel)(self.audio)[:, :-1])
            points.append(unit_vectors(codec.quantizer.project(encoded).transpose(1, 2)).flatten(0, 1))
        codebook = codec.quantizer.codebook.weight
        codebook.copy_(spherical_means(torch.cat(points), len(codebook)))
        self.share.fill_(1.0)
        self.usage.fill_(1.0)
        self.quantising = True

    def losses(self) -> dict[str, float]:
        return self.meter.read()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        corpus, crops, others = self.validation
        reference = corpus.clips(others, self.options.reference_frames)
        self.net.eval()
        made = self.net(crops.audio, reference, self.share)
        self.net.train()
        result = wave_scores(self.net.bicodec, self.spectral, made.wave, crops.audio)
        accuracy = float(phone_accuracy(made.phones, crops.phones))
        return result | {"phone_accuracy": accuracy, "codes": len(made.quantized.ids.unique())}

    def trained(self) -> BiCodec:
        return self.net.bicodec

    def state_dict(self) -> State:
        return {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "usage": self.usage,
            "steps": self.step_count,
            "quantising": self.quantising,
        }

    def load_state_dict(self, state: State) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.usage.copy_(state["usage"])
        self.step_count, self.quantising = state["steps"], state["quantising"]
        self.share.fill_(float(self.quantising))


class AdversarialPhase:
    """The prenet and the wave generator, on tokens as the language model will write them."""

    def __init__(self, work: Path, corpus: DeviceCorpus, options: CodecOptions, device: torch.device) -> None:
        self.corpus, self.options = corpus, options
        self.net = make_net(options, device).requires_grad_(False).eval()
        codec = self.net.bicodec
        self.generator = [*codec.prenet.parameters(), *codec.decoder.parameters()]
        for parameter in self.generator:
            parameter.requires_grad_(True)
        self.averaged = [parameter.detach().clone() for parameter in self.generator]
        self.average = get_ema_multi_avg_fn(options.ema_decay)  # type: ignore[no-untyped-call]
        self.discriminators = Discriminators(
            period_widths=options.period_widths, width=options.spectrogram_width
        ).to(device)
        self.spectral = SpectralLoss(codec.sample_rate).to(device)
        rate, clip = options.adversarial_rate, options.adversarial_clip
        self.optimizer = Optimizer(self.generator, rate, clip, device)
        self.critic = Optimizer(self.discriminators.parameters(), rate, clip, device)
        self.validation = load_validation(work, device, options)
        self.meter = Meter(("spectral", "critic", "fooled", "matching", "norm", "critic_norm"), device)
        self.step_count = 0
        batch, frames = options.adversarial_batch, options.adversarial_frames
        seen = frames + 2 * options.adversarial_context
        self.audio = torch.zeros(batch, frames * codec.hop, device=device)
        self.semantic = torch.zeros(batch, seen, dtype=torch.int64, device=device)
        self.globals_ = torch.zeros(batch, codec.globals_per_voice, dtype=torch.int64, device=device)
        self.mask = torch.ones(batch, 1, seen, device=device)
        self.weight = torch.zeros((), device=device)

    def grow(self, shards: list[Shard]) -> None:
        """The corpus has to be complete before, because it must have tokens."""

    def start_from(self, spectral: State) -> None:
        """Take the weights that the other phase ended with."""
        self.net.load_state_dict(spectral["net"])
        for average, parameter in zip(self.averaged, self.generator, strict=True):
            average.copy_(parameter.detach())

    def prepare(self, progress: float) -> None:
        options = self.options
        for optimizer in (self.optimizer, self.critic):
            optimizer.set_rate(scheduled_rate(progress, options))
        self.weight.fill_(min(1.0, progress / options.adversarial_ramp))
        context, seen = options.adversarial_context, self.semantic.shape[1]
        utterances, first = self.corpus.draw(options.adversarial_batch, options.adversarial_frames)
        crops = self.corpus.crop(utterances, first - context, seen)
        samples = context * self.net.bicodec.hop
        self.audio.copy_(crops.audio[:, samples : crops.audio.shape[1] - samples])
        self.semantic.copy_(self.corpus.semantic[crops.frames])
        self.globals_.copy_(self.corpus.globals_[self.corpus.companions(utterances)])
        self.mask.copy_(crops.inside.unsqueeze(1))

    def update(self) -> None:
        made = self.net.decode(self.semantic, self.globals_, self.mask, self.options.adversarial_context)
        rows = len(made)
        with self.net.precision(half=True):
            features = self.discriminators(torch.cat([self.audio, made.detach()]))
        critic = discriminator_loss(features, rows)
        critic_norm = self.critic.step(critic)
        self.discriminators.requires_grad_(False)
        with self.net.precision(half=True):
            judged = self.discriminators(made)
        self.discriminators.requires_grad_(True)
        fooled = generator_loss(judged, recordings_of(features, rows))
        spectral = self.spectral(made, self.audio)
        loss = self.weight * (fooled.adversarial + MATCHING_WEIGHT * fooled.matching) + SPECTRAL_WEIGHT * spectral
        norm = self.optimizer.step(loss)
        self.meter.write(spectral, critic, fooled.adversarial, fooled.matching, norm, critic_norm)

    @torch.no_grad()
    def adapt(self, progress: float) -> None:  # noqa: ARG002
        self.step_count += 1
        self.average(self.averaged, [parameter.detach() for parameter in self.generator], self.step_count)

    def losses(self) -> dict[str, float]:
        return self.meter.read()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        corpus, crops, others = self.validation
        semantic, globals_ = corpus.semantic[crops.frames], corpus.globals_[others]
        net = self._averaged_net()
        wave = net.decode(semantic, globals_, crops.inside.unsqueeze(1).float())
        return wave_scores(net.bicodec, self.spectral, wave, crops.audio)

    def _averaged_net(self) -> TrainingCodec:
        """A copy with the averaged weights."""
        net = copy.deepcopy(self.net)
        weights = [*net.bicodec.prenet.parameters(), *net.bicodec.decoder.parameters()]
        for parameter, average in zip(weights, self.averaged, strict=True):
            parameter.detach().copy_(average)
        return net

    def trained(self) -> BiCodec:
        return self._averaged_net().bicodec

    def state_dict(self) -> State:
        return {
            "net": self.net.state_dict(),
            "averaged": self.averaged,
            "discriminators": self.discriminators.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict(),
            "steps": self.step_count,
        }

    def load_state_dict(self, state: State) -> None:
        self.net.load_state_dict(state["net"])
        self.discriminators.load_state_dict(state["discriminators"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.critic.load_state_dict(state["critic"])
        self.step_count = state["steps"]
        for average, saved in zip(self.averaged, state["averaged"], strict=True):
            average.copy_(saved)


Validation = tuple[DeviceCorpus, Crops, Tensor]
"""The validation corpus, fixed crops of it, and for each another utterance of the same voice."""


def make_net(options: CodecOptions, device: torch.device) -> TrainingCodec:
    torch.manual_seed(options.seed)
    mixed = device.type == "cuda"
    net = TrainingCodec(options.config, len(PHONES), mixed=mixed, half_generator=options.half_generator)
    return net.to(device)


def load_validation(work: Path, device: torch.device, options: CodecOptions) -> Validation:
    path = validation_shard(work)
    corpus = DeviceCorpus(device)
    tokens = tokens_path(work, path)
    corpus.add([Shard.load(path)], [read_tokens(tokens)] if tokens.exists() else [])
    crops, others = validation_crops(corpus, options.validation_batch, options.validation_frames)
    return corpus, crops, others


@torch.no_grad()
def wave_scores(codec: BiCodec, spectral: SpectralLoss, wave: Tensor, target: Tensor) -> dict[str, float]:
    """The training distance, and the mean absolute difference of natural logarithms of mel magnitudes."""
    mel = cast(nn.Module, codec.mel)
    # The features are these logarithms divided by three.
    difference = 3 * (mel(wave) - mel(target)).abs().mean()
    return {"spectral": float(spectral(wave, target)), "log_mel": float(difference)}


def spherical_means(points: Tensor, count: int) -> Tensor:
    """Means [count, D] of points [N, D] of one length by k-means on the sphere; empty ones move to a point."""
    length = points[0].norm()
    means = points[torch.randint(len(points), (count,), device=points.device)]
    for _ in range(KMEANS_ROUNDS):
        nearest = (points @ means.T).argmax(dim=1)
        sums = torch.zeros_like(means).index_add_(0, nearest, points)
        others = points[torch.randint(len(points), (count,), device=points.device)]
        empty = sums.norm(dim=1, keepdim=True) < 1e-6
        means = F.normalize(torch.where(empty, others, sums), dim=1) * length
    return means


def save_checkpoint(path: Path, state: State) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    torch.save(state, part)
    part.replace(path)


def load_checkpoint(path: Path, device: torch.device) -> State | None:
    return torch.load(path, map_location=device, weights_only=True) if path.exists() else None


def checkpoint_path(work: Path, phase: PhaseName) -> Path:
    return work / "codec" / f"{phase}.pt"


@torch.no_grad()
def check_export(directory: Path, codec: BiCodec, audio: Tensor) -> float:
    """Decode tokens of waves [B, N] with the exported codec and with the trained one.

    Returns the error relative to the signal; raises RuntimeError when it is more than rounding explains.
    """
    loaded = BiCodec.load(directory, codec.device, encoder=True)
    semantic = loaded.encode_semantic(loaded.mel_features(list(audio)))
    globals_ = loaded.encode_globals(audio)
    expected = loaded.decode(semantic, globals_)
    training = copy.deepcopy(codec).eval()
    training.quantizer.prepare()
    found = training.decode(semantic, globals_)
    difference = torch.cat(found) - torch.cat(expected)
    error = float(difference.norm() / torch.cat(expected).norm().clamp(min=1e-6))
    if error > EXPORT_TOLERANCE:
        raise RuntimeError(f"{directory}: decodes with an error of {error:.3f} against the model in training")
    return error


def export(work: Path, phase: Phase, options: CodecOptions, audio: Tensor) -> None:
    directory = work / CODEC_DIRECTORY
    codec = phase.trained()
    write_codec(codec, options.config, directory)
    error = check_export(directory, codec, audio)
    size = sum(path.stat().st_size for path in directory.iterdir())
    print(f"codec: {directory}: {size / 1e6:.2f} MB, error of rounding {error:.4f}", flush=True)


class Loop:
    """Steps of a phase until the budget ends, with a log, checkpoints and validation on the way."""

    def __init__(
        self,
        name: PhaseName,
        phase: Phase,
        budget: Budget,
        work: Path,
        reader: ShardReader | None,
        device: torch.device,
    ) -> None:
        self.name, self.phase, self.budget, self.work, self.reader = name, phase, budget, work, reader
        self.step = GraphedStep(phase.update, capture=use_graphs(device))
        self.pace = Pacer(device)
        self.count = 0
        self._due = dict.fromkeys((self.log, self.validate, self.save, self.look), time.monotonic())
        self._logged = (0, time.monotonic())

    def run(self) -> None:
        # Compiling and capturing are no part of the schedule.
        for _ in range(WARM_UP_STEPS + 1 if self.step.capture else 0):
            self._advance(self.budget.spent / self.budget.total_seconds)
        self.budget.restart()
        while not self.budget.exhausted():
            self._advance(self.budget.progress())
            self._now_and_then()
        self.log()
        self.validate()
        self.save()

    def _advance(self, progress: float) -> None:
        self.phase.prepare(progress)
        self.step()
        self.phase.adapt(progress)
        self.pace()
        self.count += 1

    def _now_and_then(self) -> None:
        every = {
            self.log: LOG_SECONDS,
            self.validate: VALIDATE_SECONDS,
            self.save: CHECKPOINT_SECONDS,
            self.look: LOOK_SECONDS,
        }
        for action, seconds in every.items():
            if time.monotonic() - self._due[action] >= seconds:
                action()
                self._due[action] = time.monotonic()

    def log(self) -> None:
        losses = self.phase.losses()  # waits for the device
        now = time.monotonic()
        steps, since = self.count - self._logged[0], now - self._logged[1]
        self._logged = (self.count, now)
        self._print("train", losses, f"step {self.count} ({steps / max(since, 1e-9):.1f} it/s)")

    def validate(self) -> None:
        self._print("validation", self.phase.validate(), "")

    def _print(self, kind: str, values: dict[str, float], note: str) -> None:
        numbers = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        print(f"codec {self.name} {self.budget.progress():.3f} {kind}: {numbers} {note}".rstrip(), flush=True)

    def save(self) -> None:
        state = self.phase.state_dict() | {"spent": self.budget.trained()}
        save_checkpoint(checkpoint_path(self.work, self.name), state)

    def look(self) -> None:
        """Take the shards that were read since the last look, and begin to read what is new."""
        if self.reader:
            shards = self.reader.ready()
            if shards:
                self.phase.grow(shards)
                print(f"codec {self.name}: {self.phase.corpus.hours:.2f} h of speech", flush=True)
            self.reader.look()


def wait_for_shards(work: Path, reader: ShardReader, budget: Budget) -> list[Shard]:
    """The shards that are there, after a wait for the first one. Raises FileNotFoundError if none comes."""
    give_up = time.monotonic() + FIRST_SHARD_SECONDS
    while True:
        reader.look()
        shards = reader.ready(wait=True)
        if shards and validation_shard(work).exists():
            return shards
        if budget.exhausted() or time.monotonic() > give_up:
            raise FileNotFoundError(f"{work / 'corpus'}: no training shards")
        time.sleep(1.0)


def tokenised_corpus(work: Path, device: torch.device) -> DeviceCorpus:
    """All training shards with the tokens of the exported codec."""
    tokenise(work, device)
    paths = [path for path in training_shards(work) if tokens_path(work, path).exists()]
    if not paths:
        raise FileNotFoundError(f"{work / 'corpus'}: no training shards")
    with ThreadPoolExecutor(READERS) as pool:
        shards = list(pool.map(Shard.load, paths))
        tokens = list(pool.map(read_tokens, [tokens_path(work, path) for path in paths]))
    corpus = DeviceCorpus(device)
    corpus.add(shards, tokens)
    return corpus


def make_spectral(
    work: Path, reader: ShardReader, budget: Budget, options: CodecOptions, device: torch.device
) -> SpectralPhase:
    corpus = DeviceCorpus(device)
    corpus.add(wait_for_shards(work, reader, budget))
    return SpectralPhase(work, corpus, options, device)


def make_adversarial(work: Path, options: CodecOptions, device: torch.device) -> AdversarialPhase:
    path = checkpoint_path(work, "spectral")
    spectral = load_checkpoint(path, device)
    if spectral is None:
        raise FileNotFoundError(f"{path}: train the spectral phase first")
    phase = AdversarialPhase(work, tokenised_corpus(work, device), options, device)
    phase.start_from(spectral)
    return phase


def train_codec(
    work: Path,
    phase: PhaseName,
    total_seconds: float,
    limit_seconds: float,
    device: torch.device | str = "cpu",
    options: CodecOptions | None = None,
) -> None:
    """Train one phase of the codec for at most `limit_seconds` and export it to `work/codec/bicodec`.

    `total_seconds` is the length of the phase's schedule; a later call goes on where this one stops. The spectral
    phase removes `work/tokens`, which are an earlier codec's; the adversarial one makes them where they are
    missing. On CUDA steps run as graphs; where that fails the program starts itself again without.
    Raises FileNotFoundError when there is no corpus, or no codec for `adversarial` to go on with.
    """
    options = options or CodecOptions()
    device = torch.device(device)
    start = time.monotonic() - seconds_used()
    state = load_checkpoint(checkpoint_path(work, phase), device)
    budget = Budget(total_seconds, start + limit_seconds - time.monotonic(), state["spent"] if state else 0.0)
    if budget.done():
        print(f"codec {phase}: done", flush=True)
        return
    try:
        with training_stream(device):
            _train(work, phase, budget, options, device, state)
    except CaptureError as error:
        restart_simpler(error, time.monotonic() - start)


def _train(
    work: Path, name: PhaseName, budget: Budget, options: CodecOptions, device: torch.device, state: State | None
) -> None:
    reader = ShardReader(work)
    try:
        phase: Phase
        if name == "spectral":
            phase = make_spectral(work, reader, budget, options, device)
        else:
            phase = make_adversarial(work, options, device)
        if state is not None:
            phase.load_state_dict(state)
            torch.manual_seed(options.seed + phase.step_count)
        hours, parameters = phase.corpus.hours, parameter_count(phase.net.bicodec)
        print(f"codec {name}: {hours:.2f} h of speech, {parameters / 1e6:.3f} M parameters", flush=True)
        Loop(name, phase, budget, work, reader if name == "spectral" else None, device).run()
    finally:
        reader.close()
    if name == "spectral":
        shutil.rmtree(work / "tokens", ignore_errors=True)
    _, crops, _ = phase.validation
    export(work, phase, options, crops.audio[:EXPORT_ROWS, : EXPORT_FRAMES * phase.net.bicodec.hop])
