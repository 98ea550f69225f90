"""Training the demo voice's codec, at toy size on synthetic vowels."""

import copy
import itertools
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from codec.bicodec import BiCodec
from codec.clip import voice_clip
from codec.layers import Snake
from train_demo_voice.budget import Budget
from train_demo_voice.codec_data import DeviceCorpus, read_tokens, validation_crops
from train_demo_voice.codec_losses import Discriminators, SpectralLoss, discriminator_loss, generator_loss
from train_demo_voice.codec_model import (
    DEMO_CONFIG,
    FUSION_VARIABLE,
    SnakeFunction,
    TrainableSnake,
    TrainingCodec,
    make_codec,
    quantize_semantic,
    quantize_voice,
    write_codec,
)
from train_demo_voice.codec_training import (
    TOY,
    Optimizer,
    Phase,
    SpectralPhase,
    check_export,
    make_adversarial,
    spherical_means,
    train_codec,
)
from train_demo_voice.corpus import HOP, SAMPLE_RATE, Shard
from train_demo_voice.cuda_graph import (
    EAGER_VARIABLE,
    USED_VARIABLE,
    WARM_UP_STEPS,
    CaptureError,
    GraphedStep,
    restart_simpler,
    seconds_used,
    use_graphs,
)
from train_demo_voice.speakers import PHONES
from train_demo_voice.tokens import Tokeniser, tokenise

pytestmark = pytest.mark.train

CPU = torch.device("cpu")
MOST_BYTES = 7_750_000
READS = 3  # of the clock, in one step
HOST_OPERATIONS = {
    f"aten.{name}"
    for name in ("_local_scalar_dense", "nonzero", "bincount", "_unique2", "lift_fresh", "masked_select")
}


def vowels(frames: int, pitch: float, rng: np.random.Generator) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """A buzz whose timbre follows the phone of each 100 ms; phone 0 is silence."""
    phones = np.repeat(rng.integers(0, 4, -(-frames // 5)), 5)[:frames].astype(np.uint8)
    time = np.arange(frames * HOP) / SAMPLE_RATE
    loudness = np.array([[0, 0, 0], [1, 0.2, 0.1], [0.2, 1, 0.2], [0.1, 0.3, 1]])[phones].repeat(HOP, axis=0)
    wave = sum(
        loudness[:, i] * np.sin(2 * np.pi * pitch * harmonic * time) for i, harmonic in enumerate((1, 4, 9))
    )
    return (np.asarray(wave) * 6000).astype(np.int16), phones


def make_shard(count: int, seed: int) -> Shard:
    rng = np.random.default_rng(seed)
    speaker, pitch = rng.integers(0, 2, count).astype(np.uint8), rng.integers(0, 2, count).astype(np.uint8)
    lengths = rng.integers(8, 60, count)
    parts = [vowels(n, 100 + 80 * s + 30 * p, rng) for n, s, p in zip(lengths, speaker, pitch, strict=True)]
    audio, phones = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    offsets = np.concatenate([[0], np.cumsum(lengths * HOP)]).astype(np.int64)
    return Shard(
        audio=audio.astype(np.int16),
        offsets=offsets,
        phones=phones.astype(np.uint8),
        text=np.zeros(0, dtype=np.uint8),
        text_offsets=np.zeros(count + 1, dtype=np.int64),
        speaker=speaker,
        pitch=pitch,
        speed=np.zeros(count, dtype=np.uint8),
    )


def make_work(directory: Path) -> Path:
    (directory / "corpus").mkdir(parents=True)
    make_shard(8, seed=1).save(directory / "corpus" / "validation.npz")
    for i in range(2):
        make_shard(12, seed=2 + i).save(directory / "corpus" / f"{i:04d}.npz")
    return directory


def weights(work: Path, phase: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(work / "codec" / f"{phase}.pt", weights_only=True)["net"]
    return state


def logged(output: str, name: str) -> list[float]:
    lines = [line.split(" validation: ")[1].split() for line in output.splitlines() if " validation: " in line]
    return [float(words[words.index(name) + 1]) for words in lines]


def count_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a training step last READS seconds, so that schedules do not depend on the machine."""
    ticks = itertools.count()
    monkeypatch.setattr(
        "train_demo_voice.codec_training.Budget", partial(Budget, clock=lambda: float(next(ticks)))
    )


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the operations in a block."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen.add(str(func.overloadpacket))
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory after both phases; do not change it."""
    work = make_work(tmp_path_factory.mktemp("codec") / "work")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as monkeypatch:
        count_steps(monkeypatch)
        train_codec(work, "spectral", 40 * READS, 1000 * READS, options=TOY)
        train_codec(work, "adversarial", 10 * READS, 1000 * READS, options=TOY)
    return work


@pytest.fixture(scope="module")
def codec(work: Path) -> BiCodec:
    return BiCodec.load(work / "codec" / "bicodec", encoder=True)


def test_demo_codec_has_the_published_structure_and_fits(tmp_path: Path) -> None:
    codec = make_codec(DEMO_CONFIG)
    write_codec(codec, DEMO_CONFIG, tmp_path)
    loaded = BiCodec.load(tmp_path, encoder=True)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= MOST_BYTES
    assert (loaded.hop, loaded.semantic_size, loaded.global_size, loaded.globals_per_voice) == (
        320,
        1024,
        1024,
        32,
    )


def test_both_phases_lower_the_distance(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_steps(monkeypatch)
    work = make_work(tmp_path / "work")
    for limit in (1, 1000):
        train_codec(work, "spectral", 70 * READS, limit * READS, options=TOY)
    first = capsys.readouterr().out
    train_codec(work, "adversarial", 15 * READS, 1000 * READS, options=TOY)
    second = capsys.readouterr().out
    for name, share in (("spectral", 0.75), ("log_mel", 0.8)):
        start, spectral = logged(first, name)
        (adversarial,) = logged(second, name)
        assert spectral < share * start
        assert adversarial < spectral
    start, accuracy = logged(first, "phone_accuracy")
    assert accuracy > start + 0.1


def test_a_later_call_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    count_steps(monkeypatch)
    work = make_work(tmp_path / "work")
    states = []
    for _ in range(2):
        train_codec(work, "spectral", 30 * READS, 15 * READS, options=TOY)
        states.append(torch.load(work / "codec" / "spectral.pt", weights_only=True))
    first, second = states
    assert 0 < first["spent"] < 30 * READS <= second["spent"]
    assert 0 < first["steps"] < second["steps"] <= 30
    assert second["optimizer"]["state"][0]["step"] == second["steps"]
    assert second["quantising"]
    capsys.readouterr()
    train_codec(work, "spectral", 30 * READS, 15 * READS, options=TOY)
    assert capsys.readouterr().out == "codec spectral: done\n"


def toy_spectral(work: Path) -> Phase:
    corpus = DeviceCorpus(CPU)
    corpus.add([Shard.load(work / "corpus" / "0000.npz")])
    return SpectralPhase(work, corpus, TOY, CPU)


def toy_adversarial(work: Path) -> Phase:
    return make_adversarial(work, TOY, CPU)


@pytest.mark.parametrize("make", [toy_spectral, toy_adversarial])
def test_steps_decide_nothing_on_the_host(make: Callable[[Path], Phase], work: Path) -> None:
    """What a CUDA graph could not hold."""
    phase = make(work)
    phase.prepare(0.5)
    phase.update()
    with Operations() as operations:
        phase.update()
    assert len(operations.seen) > 50
    assert not operations.seen & HOST_OPERATIONS


def test_the_adversarial_phase_leaves_tokens_alone(work: Path) -> None:
    before, after = weights(work, "spectral"), weights(work, "adversarial")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    trained = {name for name in before if name.startswith(("bicodec.prenet.", "bicodec.decoder."))}
    assert changed <= trained
    assert len(changed) > 0.9 * len(trained)


def test_export_decodes_like_the_model_in_training(work: Path, tmp_path: Path) -> None:
    net = TrainingCodec(TOY.config, len(PHONES))
    net.load_state_dict(weights(work, "spectral"))
    write_codec(net.bicodec, TOY.config, tmp_path)
    audio = torch.from_numpy(make_shard(6, seed=9).audio[: 40 * HOP].astype(np.float32) / 32768)[None]
    assert check_export(tmp_path, net.bicodec, audio) < 0.01
    other = copy.deepcopy(net.bicodec)
    with torch.no_grad():
        list(other.decoder.parameters())[-2].mul_(1.2)
    with pytest.raises(RuntimeError, match="error"):
        check_export(tmp_path, other, audio)


def test_training_forward_equals_inference_on_its_tokens(codec: BiCodec) -> None:
    torch.manual_seed(0)
    net = TrainingCodec(TOY.config, len(PHONES)).eval()
    net.load_state_dict({f"bicodec.{k}": v for k, v in codec.state_dict().items()}, strict=False)
    audio = torch.randn(2, 12 * HOP) * 0.1
    made = net(audio, audio, torch.ones(()))
    semantic = codec.encode_semantic(codec.mel_features(list(audio)))
    globals_ = codec.encode_globals(audio)
    assert torch.equal(made.quantized.ids, torch.stack(semantic))
    torch.testing.assert_close(made.wave, torch.stack(codec.decode(semantic, globals_)), rtol=1e-3, atol=1e-5)
    mask = torch.ones(2, 1, 12)
    torch.testing.assert_close(net.decode(torch.stack(semantic), globals_, mask), made.wave, rtol=1e-3, atol=1e-5)


def test_decoding_a_row_that_ends_early_equals_decoding_it_alone(codec: BiCodec) -> None:
    net = TrainingCodec(TOY.config, len(PHONES)).eval()
    net.load_state_dict({f"bicodec.{k}": v for k, v in codec.state_dict().items()}, strict=False)
    ids, voice = torch.randint(0, 64, (1, 20)), torch.randint(0, 1024, (1, 4))
    mask = torch.zeros(1, 1, 30)
    mask[:, :, 6:26] = 1
    padded = torch.nn.functional.pad(ids, (6, 4), value=3)
    found = net.decode(padded, voice, mask, context=2)
    (expected,) = codec.decode(list(ids), voice)
    torch.testing.assert_close(found[0, 4 * HOP : 24 * HOP], expected, rtol=1e-3, atol=1e-5)
    assert not found[0, : 4 * HOP].any()


def test_straight_through_gradients(codec: BiCodec) -> None:
    vectors = torch.randn(1, 32, 5, requires_grad=True)
    quantized = quantize_semantic(codec.quantizer, vectors, torch.ones(()), 0.25)
    (gradient,) = torch.autograd.grad(quantized.vectors.sum(), vectors)
    assert gradient.abs().sum() > 0
    table = codec.quantizer.dequantize(quantized.ids)
    torch.testing.assert_close(quantized.vectors, table, rtol=1e-4, atol=1e-5)
    latents = torch.randn(2, 4, 8, requires_grad=True)
    voice = quantize_voice(codec.speaker_encoder, latents)
    fsq = codec.speaker_encoder.quantizer
    torch.testing.assert_close(voice, codec.speaker_vector(fsq.quantize(fsq.project(latents))))
    (gradient,) = torch.autograd.grad(voice.sum(), latents)
    assert gradient.abs().sum() > 0


def test_snake_and_its_gradient() -> None:
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    alpha = torch.nn.Parameter(torch.rand(1, 3, 1, dtype=torch.float64) + 0.5)
    assert torch.autograd.gradcheck(SnakeFunction.apply, (x, alpha))
    product = Snake(3).double()
    product.alpha.data.copy_(alpha.detach())
    product.prepare()
    torch.testing.assert_close(TrainableSnake(alpha)(x), product(x))


def test_spectral_loss_measures_level_and_pitch() -> None:
    loss = SpectralLoss(SAMPLE_RATE)
    time = torch.arange(8000) / SAMPLE_RATE
    tone = 0.2 * torch.sin(2 * torch.pi * 400 * time)[None]
    assert loss(tone, tone) < 0.01
    quiet, wrong = loss(tone * 0.8, tone), loss(0.2 * torch.sin(2 * torch.pi * 600 * time)[None], tone)
    assert 0.01 < quiet < wrong


def test_discriminators_learn_to_tell(codec: BiCodec) -> None:
    torch.manual_seed(0)
    judges = Discriminators(period_widths=(4, 4, 8, 8, 8), width=4)
    optimizer = Optimizer(judges.parameters(), 3e-3, 10.0, CPU)
    real, made = 0.1 * torch.randn(2, 4000), 0.1 * torch.sin(torch.arange(4000.0) / 7).repeat(2, 1)
    losses = []
    for _ in range(12):
        loss = discriminator_loss(judges(torch.cat([real, made])), 2)
        losses.append(float(loss.detach()))
        optimizer.step(loss)
    assert losses[-1] < 0.7 * losses[0]
    with torch.no_grad():
        assert generator_loss(judges(made), judges(real)).matching > 0.1
        assert generator_loss(judges(real), judges(real)).matching == 0


def test_steps_without_finite_gradients_are_skipped() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = Optimizer([weight], 0.1, 1.0, CPU)
    optimizer.step((weight * torch.tensor([1.0, torch.nan, 1.0])).sum())
    assert torch.equal(weight.detach(), torch.ones(3))
    optimizer.step(weight.sum())
    assert (weight.detach() < 1).all()


def test_means_find_separate_groups() -> None:
    torch.manual_seed(0)
    directions = torch.eye(4)
    points = torch.nn.functional.normalize(directions.repeat(50, 1) + 0.05 * torch.randn(200, 4), dim=1) * 2
    means = spherical_means(points, 8)
    torch.testing.assert_close(means.norm(dim=1), torch.full((8,), 2.0))
    assert ((points @ means.T).max(dim=1).values > 3.9).all()


def test_crops_stay_in_their_utterance() -> None:
    corpus = DeviceCorpus(CPU)
    shards = [make_shard(5, seed=1), make_shard(7, seed=2)]
    for shard in shards:
        corpus.add([shard])
    flat = [shard.audio_of(i) for shard in shards for i in range(len(shard))]
    voices = [(s, p) for shard in shards for s, p in zip(shard.speaker, shard.pitch, strict=True)]
    utterances, first = corpus.draw(200, 20)
    assert set(utterances.tolist()) == set(range(12))
    crops = corpus.crop(utterances, first - 3, 26)
    for row, utterance in enumerate(utterances.tolist()):
        audio = np.pad(flat[utterance].astype(np.float32) / 32768, (30 * HOP, 30 * HOP))
        start = (int(first[row]) - 3 - int(corpus.starts[utterance]) + 30) * HOP
        expected = audio[start : start + 26 * HOP]
        np.testing.assert_array_equal(crops.audio[row].numpy(), expected)
    others = corpus.companions(utterances)
    assert all(voices[a] == voices[b] for a, b in zip(utterances.tolist(), others.tolist(), strict=True))
    assert (others != utterances).any()
    clips = corpus.clips(torch.tensor([3]), 100)
    np.testing.assert_array_equal(clips[0].numpy(), np.resize(flat[3], 100 * HOP).astype(np.float32) / 32768)
    _, references = validation_crops(corpus, 12, 10)
    assert sorted(references.tolist()) == list(range(12))


def test_tokens_equal_one_by_one(work: Path, codec: BiCodec) -> None:
    shard = Shard.load(work / "corpus" / "0001.npz")
    tokens = read_tokens(work / "tokens" / "0001.npz")
    assert tokens.semantic.shape == (len(shard.phones),)
    assert tokens.globals_.shape == (len(shard), codec.globals_per_voice)
    for i in range(len(shard)):
        wave = torch.from_numpy(shard.audio_of(i).astype(np.float32) / 32768)
        (semantic,) = codec.encode_semantic(codec.mel_features([wave]))
        span = slice(int(shard.offsets[i]) // HOP, int(shard.offsets[i + 1]) // HOP)
        assert torch.equal(tokens.semantic[span], semantic)
        clip = voice_clip(wave.numpy().astype(np.float64), SAMPLE_RATE, HOP)
        globals_ = codec.encode_globals(torch.from_numpy(clip).float()[None])
        assert torch.equal(tokens.globals_[i], globals_[0])
    assert len(set(tokens.semantic.tolist())) > 3


def test_tokenise_skips_what_is_done(work: Path) -> None:
    assert tokenise(work) == 0
    path = work / "tokens" / "0000.npz"
    before = path.read_bytes()
    path.unlink()
    assert tokenise(work) == 1
    assert path.read_bytes() == before


def test_tokeniser_batches(codec: BiCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = make_shard(9, seed=5)
    whole = Tokeniser(codec)(shard)
    monkeypatch.setattr("train_demo_voice.tokens.ROWS", 2)
    for a, b in zip(whole, Tokeniser(codec)(shard), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_that_cannot_be_captured_starts_the_program_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def spoil() -> None:
        if len(calls) == WARM_UP_STEPS:
            raise RuntimeError("not in a graph")
        calls.append(len(calls))

    step = GraphedStep(spoil, capture=True)
    for _ in range(WARM_UP_STEPS):
        step()
    with pytest.raises(CaptureError):
        step()
    assert len(calls) == WARM_UP_STEPS
    started: list[list[str]] = []
    for name in (FUSION_VARIABLE, EAGER_VARIABLE, USED_VARIABLE):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("os.execv", lambda _, arguments: started.append(arguments))
    restart_simpler(CaptureError("first"), 12.5)
    assert os.environ[FUSION_VARIABLE]
    assert not os.environ[EAGER_VARIABLE]
    assert seconds_used() == 12.5
    assert seconds_used() == 0
    restart_simpler(CaptureError("second"), 3.0)
    assert not use_graphs(torch.device("cuda"))
    assert started == [[sys.executable, *sys.orig_argv[1:]]] * 2


def test_budget_over_calls() -> None:
    now = [100.0]
    budget = Budget(60.0, 20.0, spent=30.0, clock=lambda: now[0])
    now[0] += 5
    budget.restart()
    assert budget.progress() == 0.5
    now[0] += 6
    assert (budget.progress(), budget.trained(), budget.exhausted()) == (0.6, 36.0, False)
    now[0] += 9
    assert budget.exhausted()
    assert not budget.done()
    assert Budget(60.0, 20.0, spent=60.0).done()
