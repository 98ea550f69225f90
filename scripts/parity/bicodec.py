"""Compare BiCodec with a directory of golden vectors, array by array and stage by stage.

Where the directory holds what a part takes, the part is fed that, so that an error shows where it arises.
The two kinds of directory hold either a small model with `golden.npz`, or `expected.npz` for weights that
`hash_weights.py` beside it makes from the names and shapes in `keys.tsv`.
"""

import importlib.util
import json
import re
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import cast

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from codec.bicodec import CONFIG_FILE, WEIGHTS_FILE, BiCodec
from codec.clip import normalize_volume, voice_clip
from codec.config import BiCodecConfig
from codec.features import LAYERS, SemanticFeatures, standardize
from codec.layers import loaded
from codec.vocos import FrameDecoder
from codec.weights import load_weights
from parity.report import ArrayError, Arrays, Report, make_report
from random_bicodec import PUBLISHED_CONFIG

DEFAULT_TOLERANCE = 1e-4
TOLERANCES = {r"_ids": 0.0, r"\bmel": 1e-5, r"\binput_values": 1e-6, r"\bvol\.": 1e-12}
"""Largest absolute error allowed for the arrays whose names a pattern occurs in."""
INPUTS = r"enc\.wav_raw|encr\.feat|(dec\d+|batch)\.\w+_ids|vol\.\w+\.in|in\.\w+"
"""Names of golden arrays that nothing computes."""


class XVectorHead(nn.Module):
    """Attentive statistics pooling (Okabe et al. 2018) of ECAPA latents; no token depends on it."""

    def __init__(self, channels: int, out_dim: int, bottleneck: int = 128) -> None:
        super().__init__()
        self.pool = nn.ModuleDict(
            {
                "linear1": nn.Conv1d(3 * channels, bottleneck, 1),
                "linear2": nn.Conv1d(bottleneck, channels, 1),
            }
        )
        self.bn = nn.BatchNorm1d(2 * channels)
        self.linear = nn.Linear(2 * channels, out_dim)

    def forward(self, latent: Tensor) -> Tensor:
        """Latents [B, C, T] to x-vectors [B, out_dim]."""
        variance, mean = torch.var_mean(latent, dim=2, keepdim=True)
        seen = torch.cat([latent, *(x.expand_as(latent) for x in (mean, (variance + 1e-7).sqrt()))], dim=1)
        weights = self.pool["linear2"](self.pool["linear1"](seen).tanh()).softmax(dim=2)
        centre = (weights * latent).sum(dim=2)
        spread = ((weights * latent.square()).sum(dim=2) - centre.square()).clamp(min=1e-7).sqrt()
        return cast(Tensor, self.linear(self.bn(torch.cat([centre, spread], dim=1))))


class TrainingParts(nn.Module):
    """What the published file holds for training only, under its published names."""

    def __init__(self, config: BiCodecConfig) -> None:
        super().__init__()
        if config.postnet is None:
            raise ValueError("config: postnet is missing; golden models have one")
        speaker = config.speaker_encoder
        x_vector = XVectorHead(3 * speaker.ecapa_channels, speaker.out_dim)
        self.speaker_encoder = nn.ModuleDict({"speaker_encoder": x_vector})
        self.postnet = FrameDecoder(config.postnet)


@dataclass(frozen=True)
class Model:
    codec: BiCodec
    training: TrainingParts

    @classmethod
    def load(cls, directory: Path) -> "Model":
        codec = BiCodec.load(directory, encoder=True)
        with torch.device("meta"):
            training = TrainingParts(codec.config)
        load_weights(training, directory / WEIGHTS_FILE, ignored=[""], device=codec.device)
        return cls(codec, training.eval())

    def encode_stages(self, features: Tensor, clip: Tensor) -> dict[str, Tensor]:
        """Every stage from features [B, T, C] to semantic ids, and from clips [B, N] to global ids."""
        codec, speaker = self.codec, self.codec.speaker_encoder
        z = loaded(codec.encoder)(features)
        mel = loaded(codec.mel)(clip)
        latent = loaded(speaker.speaker_encoder)(mel)
        perceived = speaker.latents(mel)
        return {
            "z": z,
            "z_e": codec.quantizer.project(z),
            "semantic_ids": torch.stack(codec.encode_semantic(list(features))),
            "mel": mel.transpose(1, 2),
            "ecapa_latent": latent,
            "x_vector": self.training.speaker_encoder["speaker_encoder"](latent),
            "perceiver": perceived,
            "fsq_z": speaker.quantizer.project(perceived),
            "global_ids": codec.encode_globals(clip).unsqueeze(1),
        }

    def decode_stages(self, semantic: Tensor, globals_: Tensor) -> dict[str, Tensor]:
        """Every stage from ids [B, T] and [B, 1, 32] to the waveform [B, 1, T * hop]."""
        codec, voices = self.codec, globals_[:, 0]
        vectors, voice = codec.dequantize(semantic), codec.speaker_vector(voices)
        prenet = codec.prenet(vectors, voice)
        return {
            "z_q": vectors,
            "d_vector": voice,
            "prenet": prenet,
            "postnet": self.training.postnet(prenet),
            "wavegen_in": codec.frames(semantic, voices),
            "wav": torch.stack(codec.decode(list(semantic), voices)).unsqueeze(1),
        }

    def wave_stages(self, golden: Arrays, case: str) -> dict[str, Tensor]:
        """Every stage of the wave generator whose golden input and output are there.

        Activations grow to tens in it, and with them the rounding of everything before.
        """
        names = [f"{case}.wavegen_{index}" for index in ("in", *range(len(self.codec.decoder.model)))]
        steps = zip(self.codec.decoder.model, names, names[1:], strict=False)
        return {
            name: stage(golden[before]) for stage, before, name in steps if before in golden and name in golden
        }


def tolerance(name: str) -> float:
    return next((value for pattern, value in TOLERANCES.items() if re.search(pattern, name)), DEFAULT_TOLERANCE)


def array_error(name: str, found: Tensor, golden: Tensor) -> ArrayError:
    return ArrayError.between(found, golden, tolerance(name))


def read_arrays(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def prefixed(prefix: str, arrays: Arrays) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


# A directory with golden.npz


def preparation(golden: Arrays, sample_rate: int, hop: int) -> dict[str, Tensor]:
    """Volume, reference clip and standardised input."""
    volumes = [name for name in golden if name.startswith("vol.") and name.endswith(".in")]
    raw, wave = golden["enc.wav_raw"].double().numpy(), golden["enc.wav"]
    return {
        "enc.wav": torch.from_numpy(normalize_volume(raw)),
        "enc.ref_wav": torch.from_numpy(voice_clip(wave.numpy(), sample_rate, hop)).unsqueeze(0),
        "enc.input_values": standardize(wave).unsqueeze(0),
        **{
            f"{name.removesuffix('.in')}.out": torch.from_numpy(normalize_volume(golden[name].numpy()))
            for name in volumes
        },
    }


def wav2vec2_stages(directory: Path, golden: Arrays) -> dict[str, Tensor]:
    """Hidden states and features. Raises ImportError when transformers is not installed."""
    model = SemanticFeatures.load(directory)
    hidden = model.hidden_states(list(golden["enc.input_values"]))
    states = {f"enc.w2v_hidden_{layer}": state for layer, state in zip(LAYERS, hidden, strict=True)}
    return states | {"enc.feat": torch.stack(model([golden["enc.wav"]]))}


def encoding(model: Model, golden: Arrays) -> dict[str, Tensor]:
    stages = model.encode_stages(golden["enc.feat"], golden["enc.ref_wav"])
    latent = stages["ecapa_latent"]
    stages |= {"ecapa_latent_mean_t": latent.mean(dim=2), "ecapa_latent_first8": latent[:, :, :8]}
    clips = torch.cat([golden["enc.ref_wav"], golden["enc.ref_wav"].flip(1) * 0.5])
    batch = model.encode_stages(golden["encr.feat"], clips)
    return prefixed("enc", stages) | prefixed("encr", batch)


def decoding(model: Model, golden: Arrays) -> dict[str, Tensor]:
    """Every case of tokens, each by itself."""
    cases = [name.removesuffix(".wav") for name in golden if re.fullmatch(r"(dec\d+|batch)\.wav", name)]
    found: dict[str, Tensor] = {}
    for case in cases:
        ids = (golden[f"{case}.{kind}_ids"].long() for kind in ("semantic", "global"))
        found |= prefixed(case, model.decode_stages(*ids)) | model.wave_stages(golden, case)
    recon = model.decode_stages(golden["enc.semantic_ids"].long(), golden["enc.global_ids"].long())
    return found | {
        "enc.recon_wav": recon["wav"],
        "enc.forward_pred_feat": recon["postnet"],
        "enc.forward_d_vector": recon["d_vector"],
    }


def ragged_decoding(model: Model, golden: Arrays) -> dict[str, Tensor]:
    """All single rows as one batch of unequal lengths."""
    names = [name for name in golden if re.fullmatch(r"dec\d+\.wav", name)]
    cases = [name.removesuffix(".wav") for name in names]
    semantic = [golden[f"{case}.semantic_ids"][0].long() for case in cases]
    globals_ = torch.cat([golden[f"{case}.global_ids"][:, 0].long() for case in cases])
    waves = model.codec.decode(semantic, globals_)
    return {f"ragged.{name}": wave.view(1, 1, -1) for name, wave in zip(names, waves, strict=True)}


def compare_small(directory: Path) -> Report:
    golden = read_arrays(directory / "golden.npz")
    model = Model.load(directory / "BiCodec")
    golden |= {f"ragged.{name}": array for name, array in golden.items() if re.fullmatch(r"dec\d+\.wav", name)}
    found = preparation(golden, model.codec.sample_rate, model.codec.hop)
    found |= encoding(model, golden) | decoding(model, golden) | ragged_decoding(model, golden)
    reasons: dict[str, str] = {}
    try:
        found |= wav2vec2_stages(directory / "wav2vec2-large-xlsr-53", golden)
    except ImportError:
        features = [name for name in golden if re.fullmatch(r"enc\.(w2v_hidden_\d+|feat)", name)]
        reasons = dict.fromkeys(features, "it needs transformers, which is not installed")
    return make_report(found, golden, tolerance, INPUTS, reasons)


# A directory with expected.npz


def import_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_hashed_model(directory: Path, source: Path, hash_weights: ModuleType) -> None:
    """Write the published configuration, or the one beside the keys, and the weights of the keys."""
    own = source / CONFIG_FILE
    config = own.read_text() if own.is_file() else yaml.safe_dump(dict(PUBLISHED_CONFIG))
    (directory / CONFIG_FILE).write_text(config)
    lines = (source / "keys.tsv").read_text().splitlines()
    shapes = {name: tuple(json.loads(shape)) for name, shape in (line.split("\t")[:2] for line in lines)}
    weights = {
        name: torch.from_numpy(hash_weights.tensor(name, shape, shapes)).view(shape)
        for name, shape in shapes.items()
    }
    save_file(weights, directory / WEIGHTS_FILE)


def compare_hashed(directory: Path) -> Report:
    golden = read_arrays(directory / "expected.npz")
    hash_weights = import_file(directory / "hash_weights.py")
    with TemporaryDirectory() as folder:
        write_hashed_model(Path(folder), directory, hash_weights)
        model = Model.load(Path(folder))
    inputs = {name: torch.from_numpy(array) for name, array in hash_weights.inputs().items()}
    encoded = model.encode_stages(inputs["feat"], inputs["ref_wav"])
    decoded = model.decode_stages(golden["in.semantic_ids"].long(), golden["in.global_ids"].long())
    mel = encoded["mel"]
    found = decoded | {
        "postnet_first3": decoded["postnet"][:, :, :3],
        "z_rms": encoded["z"].square().mean().sqrt(),
        "z_e": encoded["z_e"],
        "semantic_ids_enc": encoded["semantic_ids"],
        "mel_first4_last4": torch.cat([mel[:, :, :4], mel[:, :, -4:]], dim=2),
        "ecapa_latent_mean_t": encoded["ecapa_latent"].mean(dim=2),
        "x_vector": encoded["x_vector"],
        "fsq_z": encoded["fsq_z"],
        "global_ids_enc": encoded["global_ids"],
    }
    return make_report(found, golden, tolerance, INPUTS, {})


@torch.inference_mode()
def compare(directory: Path) -> Report:
    """Compare with whichever kind of golden vectors the directory holds.

    Raises ValueError for a directory of neither kind, and what loading raises.
    """
    if (directory / "golden.npz").is_file():
        return compare_small(directory)
    if (directory / "expected.npz").is_file():
        return compare_hashed(directory)
    raise ValueError(f"{directory}: found neither golden.npz nor expected.npz")
