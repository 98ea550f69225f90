"""Training of the language model: it sees what the worker feeds, and the worker computes what it learnt."""

import os
import shutil
import time
from dataclasses import replace
from functools import partial
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from model.checkpoint import load_checkpoint
from model.ragged import Ragged
from model.rwkv7 import RWKV7
from rwkv_tts.attributes import Attributes
from sampler.decoding import Decoding, FinishReason, Phase
from sampler.prompt import attribute_prompt, voice_prompt
from train_demo_voice import language_training
from train_demo_voice.budget import Budget
from train_demo_voice.corpus import HOP, Shard
from train_demo_voice.language_data import (
    IGNORE,
    NEXT_PHONE,
    PHONE,
    START,
    TARGET,
    TOKEN,
    Groups,
    Loader,
    Mixture,
    Mode,
    Pack,
    Packer,
    Sample,
    Utterances,
    draw_sample,
    next_distinct,
    plain,
    sequence,
    training_packs,
    validation_packs,
)
from train_demo_voice.language_model import (
    LAYOUT,
    RESET,
    LanguageModel,
    ModelSizes,
    Pointwise,
    compiled_pointwise,
    naive_wkv,
)
from train_demo_voice.language_training import (
    MEASURES,
    RESTART_VARIABLE,
    TOY,
    CaptureError,
    Trainer,
    measure,
    noise_pack,
    objective,
    train_language,
    wkv_error,
)
from train_demo_voice.muon import FlatOptimizer, FlatParameters, Rates, orthogonalize

pytestmark = pytest.mark.train

SIZES = ModelSizes(
    layers=3, width=128, ffn=192, rank_w=8, rank_a=12, rank_v=6, rank_g=10, phone_block=2, dropout=0.1
)
TEXTS = ("Hello there.", "One two three!", "Why?", "Grüße, Jo.")
Tokens = tuple[NDArray[np.int16], NDArray[np.int16]]


def make_shard(n: int, seed: int = 0) -> tuple[Shard, Tokens]:
    """A shard of silence with made-up phones; the speech tokens spell the phones, so they can be learnt."""
    random = np.random.default_rng(seed)
    texts = [TEXTS[i % len(TEXTS)].encode() for i in range(n)]
    frames = random.integers(8, 16, size=n)
    phones = np.repeat(random.integers(0, 4, size=frames.sum()), 3)[: frames.sum()].astype(np.uint8)
    speaker, pitch, speed = (random.integers(0, size, n).astype(np.uint8) for size in (4, 2, 2))
    shard = Shard(
        audio=np.zeros(frames.sum() * HOP, dtype=np.int16),
        offsets=np.concatenate([[0], np.cumsum(frames)]) * HOP,
        phones=phones,
        text=np.frombuffer(b"".join(texts), dtype=np.uint8),
        text_offsets=np.concatenate([[0], np.cumsum([len(t) for t in texts])]),
        speaker=speaker,
        pitch=pitch,
        speed=speed,
    )
    voices = (speaker.astype(np.int64) * 100)[:, None] + np.arange(32) * 3
    return shard, ((phones.astype(np.int64) * 7 + 11).astype(np.int16), voices.astype(np.int16))


@pytest.fixture(scope="module")
def utterances() -> Utterances:
    first, second = make_shard(30), make_shard(20, seed=1)
    return Utterances.of([first[0], second[0]], [first[1], second[1]])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "tokens").mkdir()
    for name, n in (("0000", 40), ("validation", 4)):
        shard, (semantic, voices) = make_shard(n)
        shard.save(tmp_path / "corpus" / f"{name}.npz")
        np.savez(tmp_path / "tokens" / f"{name}.npz", semantic=semantic, globals=voices)
    return tmp_path


def shaken(sizes: ModelSizes = SIZES) -> LanguageModel:
    """A model in evaluation mode with nothing at zero: every path of the forward counts."""
    torch.manual_seed(3)
    model = LanguageModel(sizes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if parameter.ndim == 1 else 0.15))
        model.emb.weight.mul_(3)
    return model


def product(model: LanguageModel, path: Path) -> RWKV7:
    save_file({name: t.float() for name, t in model.export().items()}, path)
    return RWKV7(load_checkpoint(path))


def as_exported(model: LanguageModel) -> None:
    """Round the weights as the export does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def product_logits(model: RWKV7, tokens: Tensor) -> Tensor:
    """Logits after every token of one sequence, [n, head rows], fed token by token."""
    state, rows = model.state(1), Ragged.of([1], [0])
    buffer = torch.empty(32, model.sizes.head_rows)
    return torch.stack(
        [model.logits(model.forward(token[None], rows, state), buffer)[0].clone() for token in tokens]
    )


def random_tokens(n: int) -> Tensor:
    return torch.randint(LAYOUT.vocabulary_size, (n,), generator=torch.Generator().manual_seed(n))


def starts_at(length: int, *places: int) -> Tensor:
    starts = torch.zeros(1, length, dtype=torch.bool)
    starts[0, list(places)] = True
    return starts


@torch.no_grad()
def test_the_worker_computes_the_trained_logits(tmp_path: Path) -> None:
    model = shaken()
    as_exported(model)
    tokens = random_tokens(40)
    trained, _ = model(tokens[None], starts_at(40, 0))
    computed = product_logits(product(model, tmp_path / "rwkv7.safetensors"), tokens)
    assert trained.std() > 0.3
    torch.testing.assert_close(trained[0], computed, atol=1e-4, rtol=0)


@torch.no_grad()
def test_packed_sequences_are_as_alone(tmp_path: Path) -> None:
    model = shaken()
    as_exported(model)
    lengths = (17, 5, 20)
    parts = [random_tokens(n) for n in lengths]
    packed, _ = model(torch.cat(parts)[None], starts_at(42, 0, 17, 22))
    worker = product(model, tmp_path / "rwkv7.safetensors")
    alone = torch.cat([product_logits(worker, part) for part in parts])
    torch.testing.assert_close(packed[0], alone, atol=1e-4, rtol=0)


def test_nothing_flows_back_over_a_start() -> None:
    model = shaken()
    tokens = random_tokens(24)
    x = model.emb.weight[tokens].detach().requires_grad_()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_embed", lambda _tokens: x[None])
        logits, _ = model(tokens[None], starts_at(24, 0, 10))
    (gradient,) = torch.autograd.grad(logits[0, 10:].square().sum(), x)
    norms = gradient.norm(dim=-1)
    assert norms[:10].max() < 1e-6 * norms[10:].min()


def test_the_recurrence_forgets_at_a_reset() -> None:
    torch.manual_seed(0)
    r, k, v, b = torch.randn(4, 1, 6, 2, 64).unbind()
    decay = torch.full_like(r, -0.1)
    decay[:, 3] = RESET
    removal = torch.nn.functional.normalize(torch.randn_like(r), dim=-1)
    removal[:, 3] = 0
    whole = naive_wkv(r, decay, k, v, removal, b)
    parts = [naive_wkv(*(t[:, where] for t in (r, decay, k, v, removal, b))) for where in (slice(3), slice(3, 6))]
    torch.testing.assert_close(whole, torch.cat(parts, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_dropout_is_for_training_only() -> None:
    model = shaken()
    tokens, starts = random_tokens(8)[None], starts_at(8, 0)
    assert torch.equal(model(tokens, starts)[0], model(tokens, starts)[0])
    model.train()
    assert not torch.equal(model(tokens, starts)[0], model(tokens, starts)[0])


def test_export_is_published_names_in_half_precision() -> None:
    model = LanguageModel(SIZES)
    tensors = model.export()
    assert all(t.dtype == torch.float16 for t in tensors.values())
    assert not any("phone" in name for name in tensors)
    assert tensors["blocks.1.att.x_r"].shape == tensors["blocks.2.ffn.x_k"].shape == (1, 1, 128)
    assert tensors["blocks.1.att.r_k"].shape == (2, 64)
    assert tensors["blocks.0.att.w1"].shape == (128, 8)
    with torch.no_grad():
        model.ln_out.weight[3] = 1e5
    with pytest.raises(ValueError, match=r"ln_out\.weight"):
        model.export()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_parts_have_the_same_gradients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The usual cache may hold what was compiled for other instructions of this processor.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model = shaken(replace(SIZES, dropout=0.0))
    tokens, starts = random_tokens(32)[None], starts_at(32, 0, 9)

    def gradients() -> dict[str, Tensor]:
        model.zero_grad()
        sum(part.square().mean() for part in model(tokens, starts)).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    written = gradients()
    model.pointwise = compiled_pointwise()
    compiled = gradients()
    assert compiled.keys() == written.keys()
    torch.testing.assert_close(compiled, written, atol=1e-4, rtol=1e-4)


def draw_targets(decoding: Decoding, targets: list[int]) -> list[int]:
    """Drive ``decoding`` with the tokens to be drawn; return all tokens that it feeds."""
    fed = []
    for target in targets:
        fed += decoding.take(decoding.remaining)
        assert target < decoding.allowed
        decoding.accept(target)
    return fed


@pytest.mark.parametrize("mode", ["described", "cloned"])
def test_sequences_are_what_decoding_feeds(utterances: Utterances, mode: Mode) -> None:
    attributes = Attributes("elderly", "male", "sad", "low_pitch", "fast")
    planes = sequence(utterances, Sample((3,), 5, mode, attributes))
    voice, text = utterances.globals_[5].tolist(), list(utterances.text_of(3))
    semantic = utterances.semantic[utterances.frames_of(3)].tolist()
    if mode == "described":
        decoding = Decoding(LAYOUT, attribute_prompt(LAYOUT, text, attributes))
        drawn = [*voice, *semantic, LAYOUT.eos]
    else:
        decoding = Decoding(LAYOUT, voice_prompt(LAYOUT, text, voice), voice)
        drawn = [*semantic, LAYOUT.eos]
    fed = draw_targets(decoding, drawn)
    assert decoding.finish is FinishReason.EOS
    assert decoding.globals_ == voice
    assert planes[TOKEN].tolist() == fed
    assert planes[TARGET][planes[TARGET] != IGNORE].tolist() == drawn


def test_targets_stand_where_decoding_draws(utterances: Utterances) -> None:
    planes = sequence(utterances, Sample((3,), 3, "described", Attributes()))
    decoding = Decoding(LAYOUT, attribute_prompt(LAYOUT, list(utterances.text_of(3)), Attributes()))
    place = -1
    while decoding.finish is None:
        place += len(decoding.take(decoding.remaining))
        target = int(planes[TARGET, place])
        assert target != IGNORE
        assert (planes[PHONE, place] != IGNORE) == (decoding.phase is Phase.SEMANTIC and target != LAYOUT.eos)
        decoding.accept(target)
    assert place == planes.shape[1] - 1
    assert np.array_equal(planes[PHONE][planes[PHONE] != IGNORE], utterances.phones[utterances.frames_of(3)])


def test_joined_sequences(utterances: Utterances) -> None:
    planes = sequence(utterances, Sample((0, 2), 0, "cloned", Attributes(), plain=True))
    text = planes[TOKEN, 1 : list(planes[TOKEN]).index(LAYOUT.tag_text_end)] - LAYOUT.text_offset
    assert bytes(text.tolist()) == b"hello there. why"
    expected = np.concatenate([utterances.semantic[utterances.frames_of(i)] for i in (0, 2)])
    assert np.array_equal(planes[TARGET][planes[TARGET] != IGNORE][:-1], expected)
    assert planes[START].tolist() == [1] + [0] * (planes.shape[1] - 1)
    assert plain("?!") == "?!"


def test_utterances_keep_shards_apart(utterances: Utterances) -> None:
    shard, (semantic, voices) = make_shard(20, seed=1)
    assert len(utterances) == 50
    assert utterances.text_of(33).decode() == shard.text_of(3)
    own = slice(shard.offsets[3] // HOP, shard.offsets[4] // HOP)
    assert np.array_equal(utterances.semantic[utterances.frames_of(33)], semantic[own])
    assert np.array_equal(utterances.phones[utterances.frames_of(33)], shard.phones_of(3))
    assert np.array_equal(utterances.globals_[33], voices[3])


def test_tokens_must_fit_their_shard() -> None:
    shard, (semantic, voices) = make_shard(3)
    with pytest.raises(ValueError, match="do not fit"):
        Utterances.of([shard], [(semantic[:-1], voices)])
    with pytest.raises(ValueError, match="no shards"):
        Utterances.of([], [])


def test_next_phone_stays_inside_its_utterance() -> None:
    phones = np.array([0, 0, 5, 5, 7, 7, 7, 2, 2], dtype=np.int16)
    following = next_distinct(phones, np.array([0, 5, 9]))
    assert following.tolist() == [5, 5, 7, 7, IGNORE, 2, 2, IGNORE, IGNORE]


def test_groups_draw_their_members() -> None:
    keys = np.array([4, 2, 4, 9, 2, 4])
    random = np.random.default_rng(0)
    groups = Groups.of(keys)
    for i in range(len(keys)):
        drawn = {groups.draw(i, random) for _ in range(60)}
        assert drawn == set(np.flatnonzero(keys == keys[i]).tolist())


def test_samples_follow_the_mixture(utterances: Utterances) -> None:
    random, mixture = np.random.default_rng(0), Mixture()
    samples = [draw_sample(utterances, i % 50, mixture, random) for i in range(2000)]
    cloned = np.mean([s.mode == "cloned" for s in samples])
    joined = np.mean([len(s.parts) > 1 for s in samples])
    neutral = np.mean([s.attributes.emotion == "neutral" for s in samples])
    unknown = np.mean([s.attributes.age in ("child", "teenager", "elderly") for s in samples])
    assert np.allclose([cloned, joined, neutral, unknown], [0.3, 0.35, 0.6, 0.15], atol=0.04)
    for s in samples:
        voices = {(utterances.speaker[i], utterances.pitch[i]) for i in (s.parts[0], s.voice)}
        assert len(voices) == 1
        assert len({(utterances.speaker[p], utterances.pitch[p], utterances.speed[p]) for p in s.parts}) == 1


def test_joined_samples_stay_within_bounds(utterances: Utterances) -> None:
    random, mixture = np.random.default_rng(0), Mixture(joined=1.0, longest_text=30, longest_speech=40)
    for i in range(50):
        parts = draw_sample(utterances, i, mixture, random).parts
        if len(parts) > 1:
            assert len(b" ".join(utterances.text_of(p) for p in parts)) <= 30
            assert utterances.frames[list(parts)].sum() <= 40


def unpacked(pack: Pack) -> list[Pack]:
    """The sequences of a pack, padding included."""
    parts = []
    for row in range(pack.shape[1]):
        bounds = [*np.flatnonzero(pack[START, row]).tolist(), pack.shape[2]]
        parts += [pack[:, row, a:b] for a, b in pairwise(bounds)]
    return parts


def numbered(lengths: list[int]) -> list[Pack]:
    planes = [np.full((5, n), i + 1, dtype=np.int16) for i, n in enumerate(lengths)]
    for part in planes:
        part[START] = 0
        part[START, 0] = 1
    return planes


def test_packs_hold_whole_sequences_and_lose_none() -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(5, 60, size=200).tolist()
    sequences = numbered(lengths)
    packs = list(Packer(3, 64, patience=4).packs(iter(sequences)))
    found = [part for pack in packs for part in unpacked(pack) if part[TOKEN, 0] != 0]
    assert sorted(part[TOKEN, 0] for part in found) == list(range(1, 201))
    assert all(np.array_equal(part, sequences[part[TOKEN, 0] - 1]) for part in found)
    assert all(pack[START, :, 0].all() for pack in packs)
    padding = [part for pack in packs for part in unpacked(pack) if part[TOKEN, 0] == 0]
    assert padding
    assert all((part[TARGET] == IGNORE).all() for part in padding)


def test_what_is_longer_than_a_row_is_dropped() -> None:
    packer = Packer(2, 32)
    pack = packer.pack(iter(numbered([10, 33, 12])))
    assert pack is not None
    assert set(pack[TOKEN].ravel().tolist()) == {0, 1, 3}
    assert packer.pack(iter([])) is None


def test_training_packs_are_full_and_reproducible(utterances: Utterances) -> None:
    def packs() -> list[Pack]:
        source = training_packs(utterances, Mixture(), 4, 512, (1, 2))
        return [next(source) for _ in range(5)]

    assert all(np.array_equal(a, b) for a, b in zip(packs(), packs(), strict=True))
    assert np.mean([(pack[TOKEN] != 0).mean() for pack in packs()]) > 0.9


def test_validation_sees_every_utterance_in_both_modes(utterances: Utterances) -> None:
    packs = validation_packs(utterances, 2, 256)
    ends = sum(int((pack[TARGET] == LAYOUT.eos).sum()) for pack in packs)
    assert ends == 50 + 50 + 17
    assert all(np.array_equal(a, b) for a, b in zip(packs, validation_packs(utterances, 2, 256), strict=True))


def test_the_loader_brings_packs_from_processes(utterances: Utterances) -> None:
    with Loader(utterances, Mixture(), 2, 256, workers=2, seed=(0,)) as loader:
        packs = [loader.get() for _ in range(12)]
    assert all(pack.shape == (5, 2, 256) for pack in packs)
    assert len({pack.tobytes() for pack in packs}) == 12


def test_the_loader_goes_on_when_its_processes_die(utterances: Utterances) -> None:
    with Loader(utterances, Mixture(), 2, 256, workers=1, seed=(0,)) as loader:
        loader.close()
        assert loader.get().shape == (5, 2, 256)


def test_orthogonalize_makes_singular_values_alike() -> None:
    torch.manual_seed(0)
    for shape in ((3, 32, 32), (2, 64, 16), (2, 16, 64)):
        matrices = torch.randn(shape) * torch.logspace(-2, 2, shape[0])[:, None, None]
        values = torch.linalg.svdvals(orthogonalize(matrices))
        assert values.min() > 0.3
        assert values.max() < 1.3
        before, after = torch.linalg.svd(matrices), orthogonalize(matrices)
        inside = before.U[:, :, : min(shape[1:])].mT @ after @ before.Vh[:, : min(shape[1:])].mT
        assert (inside - torch.diag_embed(inside.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def small_parameters() -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(8, 4))], [
        nn.Parameter(torch.randn(6))
    ]


def test_flat_parameters_are_views() -> None:
    matrices, others = small_parameters()
    before = [p.detach().clone() for p in [*matrices, *others]]
    flat = FlatParameters.of(matrices, others)
    assert all(torch.equal(a, b) for a, b in zip(before, [*matrices, *others], strict=True))
    assert [shape for _, shape in flat.stacks] == [(1, 4, 4), (2, 8, 4)]
    (matrices[0].sum() + 2 * others[0].sum()).backward()  # type: ignore[no-untyped-call]
    assert flat.gradients.sum() == 32 + 12
    where, shape = flat.stacks[1]
    assert torch.equal(flat.values[where].view(shape)[0], matrices[0])
    assert flat.gradients[flat.rest :].tolist() == [2.0] * 6


def test_muon_steps_down_by_an_orthogonal_matrix() -> None:
    matrices, others = small_parameters()
    flat = FlatParameters.of(matrices, others)
    optimizer = FlatOptimizer(flat, Rates(muon=0.1, decay=0.0))
    optimizer.factor.fill_(0.5)
    before, gradient = matrices[2].detach().clone(), torch.randn(8, 4)
    matrices[2].grad.copy_(gradient)  # type: ignore[union-attr]
    optimizer.step()
    update = matrices[2].detach() - before
    assert (update * gradient).sum() < 0
    expected = 0.1 * 0.5 * 2**0.5
    assert torch.linalg.svdvals(update) / expected == pytest.approx(np.ones(4), abs=0.35)
    assert not optimizer.momentum[: matrices[1].numel()].any()


def test_adam_is_torch_adam() -> None:
    _, (ours,) = small_parameters()
    theirs = nn.Parameter(ours.detach().clone())
    flat = FlatParameters.of([], [ours])
    optimizer = FlatOptimizer(flat, Rates(adam=0.05))
    reference = torch.optim.Adam([theirs], lr=0.05, betas=(0.9, 0.98), eps=1e-8)
    for step in range(5):
        gradient = torch.sin(torch.arange(6.0) + step)
        flat.gradients.copy_(gradient)
        theirs.grad = gradient
        optimizer.step()
        reference.step()
    torch.testing.assert_close(ours, theirs)


def test_bad_gradients_are_skipped_and_large_ones_clipped() -> None:
    matrices, others = small_parameters()
    flat = FlatParameters.of(matrices, others)
    flat.gradients.fill_(10.0)
    flat.clip(1.0)
    assert flat.gradients.norm() == pytest.approx(1.0, abs=1e-4)
    flat.gradients[3], flat.gradients[5] = torch.nan, torch.inf
    flat.clip(1.0)
    assert not flat.gradients.any()


def test_the_mean_follows_the_weights() -> None:
    matrices, others = small_parameters()
    flat = FlatParameters.of(matrices, others)
    optimizer = FlatOptimizer(flat, Rates(mean=0.5))
    start = flat.values.clone()
    flat.gradients.fill_(1.0)
    optimizer.step()
    torch.testing.assert_close(optimizer.mean, (start + flat.values) / 2)


def test_the_schedule_rises_stays_and_falls() -> None:
    factors = [TOY.factor(progress) for progress in (0.0, 0.005, 0.01, 0.3, 0.65, 1.0)]
    assert factors == pytest.approx([0.0, 0.5, 1.0, 1.0, 0.515, 0.03])


@torch.no_grad()
def test_measures_count_each_kind_of_target(utterances: Utterances) -> None:
    model = LanguageModel(TOY.sizes).eval()
    pack = validation_packs(utterances, 2, 256)[0]
    counts = measure(model, torch.from_numpy(pack))[1].int().tolist()
    ends = int((pack[TARGET] == LAYOUT.eos).sum())
    described = int((pack[TOKEN] == LAYOUT.control_offset).sum())
    assert counts[0] == 32 * described
    assert counts[2] == ends
    assert counts[1] == counts[3] == int((pack[PHONE] != IGNORE).sum())
    assert sum(counts[:3]) == int((pack[TARGET] != IGNORE).sum())
    assert counts[4] == int((pack[NEXT_PHONE] != IGNORE).sum())


def test_the_objective_weighs_tokens_alike() -> None:
    measured = torch.tensor([[8.0, 10.0, 2.0, 6.0, 4.0], [4.0, 5.0, 1.0, 3.0, 0.0]])
    assert objective(measured, 0.5).item() == pytest.approx(2.0 + 0.5 * (2.0 + 4.0))


def test_toy_training_lowers_the_loss(utterances: Utterances) -> None:
    trainer = Trainer(TOY, torch.device("cpu"))
    packs = training_packs(utterances, Mixture(joined=0.0), TOY.rows, TOY.length, (0,))
    trainer.prepare([next(packs)])
    first = trainer.averages()
    for step in range(30):
        trainer.step(next(packs), 1.0)
        if step == 24:
            trainer.averages()
    last = trainer.averages()
    assert first["semantic"] > 6
    assert last["semantic"] < 3
    assert all(last[name] < first[name] for name in MEASURES)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Budgets whose clock goes on by a second whenever it is read, however busy the machine is."""
    monkeypatch.setattr(language_training, "Budget", partial(Budget, clock=count().__next__))


@pytest.mark.usefixtures("ticking")
def test_training_exports_and_resumes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_language(work, 100.0, 25.0, "cpu", TOY)
    first = torch.load(work / "language" / "language.pt", weights_only=True)
    assert 20 < first["spent"] < 40
    assert 5 < first["steps"] < 25
    train_language(work, 100.0, 25.0, "cpu", TOY)
    second = torch.load(work / "language" / "language.pt", weights_only=True)
    assert 40 < second["spent"] < 80
    assert first["steps"] + 5 < second["steps"] < 50
    assert second["best_loss"] < first["best_loss"] < 7
    assert second["optimizer"]["count"] == second["steps"]
    exported = load_checkpoint(work / "language" / "rwkv7.safetensors")
    assert exported.sizes.vocabulary == 2408
    assert exported.sizes.head_rows == 1025
    assert "validation of their mean" in capsys.readouterr().out


@pytest.mark.usefixtures("ticking")
def test_a_finished_schedule_only_exports(work: Path) -> None:
    train_language(work, 10.0, 100.0, "cpu", TOY)
    checkpoint, export = work / "language" / "language.pt", work / "language" / "rwkv7.safetensors"
    before, tensors = checkpoint.read_bytes(), export.read_bytes()
    export.unlink()
    train_language(work, 10.0, 100.0, "cpu", TOY)
    assert checkpoint.read_bytes() == before
    assert export.read_bytes() == tensors


@pytest.mark.usefixtures("ticking")
def test_the_export_is_the_best_validated(work: Path) -> None:
    train_language(work, 30.0, 100.0, "cpu", TOY)
    trainer = Trainer(TOY, torch.device("cpu"))
    packs = validation_packs(Utterances.validation(work), TOY.rows, TOY.length)
    saved = torch.load(work / "language" / "language.pt", weights_only=True)
    with trainer.weights(saved["best"]):
        assert trainer.validate(packs)["semantic"] == pytest.approx(saved["best_loss"], abs=1e-4)
        exported = trainer.model.export()
    file = load_checkpoint(work / "language" / "rwkv7.safetensors")
    assert torch.equal(file.tensors["head.weight"], exported["head.weight"])


def test_what_does_not_compile_runs_as_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_parts: Tensor) -> Tensor:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(language_training, "compiled_pointwise", lambda: Pointwise(finish=broken))
    trainer = Trainer(replace(TOY, compiled=True), torch.device("cpu"))
    trainer.prepare([noise_pack(TOY)])
    trainer.step(noise_pack(TOY), 1.0)
    assert trainer.averages()["semantic"] > 0
    assert "no compiler" in capsys.readouterr().out


def test_a_failed_capture_starts_again_with_less(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_trainer: Trainer, _packs: list[Pack]) -> None:
        raise CaptureError("no")

    def execute(program: str, arguments: list[str]) -> None:
        restarts.append(os.environ[RESTART_VARIABLE].split())
        raise SystemExit

    restarts: list[list[str]] = []
    monkeypatch.setattr(Trainer, "prepare", fail)
    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setenv(RESTART_VARIABLE, "")
    monkeypatch.delenv(RESTART_VARIABLE)
    for _ in range(2):
        with pytest.raises(SystemExit):
            train_language(work, 60.0, 60.0, "cpu", replace(TOY, compiled=True))
    assert [what for what, _ in restarts] == ["compiled", "graph"]
    assert all(30 < float(until) - time.time() < 61 for _, until in restarts)


def test_a_restarted_call_keeps_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(TOY, compiled=True)
    monkeypatch.setenv(RESTART_VARIABLE, f"compiled {time.time() + 30}")
    simpler, limit = language_training._after_restart(options, 60.0)
    assert (simpler.compiled, simpler.graph) == (False, True)
    assert 20 < limit < 31
    assert language_training._after_restart(options, 60.0) == (options, 60.0)
    monkeypatch.setenv(RESTART_VARIABLE, f"graph {time.time() + 90}")
    simpler, limit = language_training._after_restart(options, 60.0)
    assert (simpler.compiled, simpler.graph, limit) == (False, False, 60.0)


gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@gpu
def test_the_kernel_computes_the_recurrence() -> None:
    pytest.importorskip("fla")
    assert wkv_error(torch.device("cuda")) < 1e-2


@gpu
@pytest.mark.timeout(600)
def test_a_graph_trains_like_single_kernels() -> None:
    pytest.importorskip("fla")
    options = replace(TOY, length=256)
    losses = []
    for graph in (False, True):
        with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
            trainer = Trainer(replace(options, graph=graph), torch.device("cuda"))
            trainer.prepare([noise_pack(options)] * 3)
            trainer.averages()
            for _ in range(20):
                trainer.step(noise_pack(options), 1.0)
            losses.append(list(trainer.averages().values()))
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
