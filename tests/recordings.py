"""Recordings of the authors' own networks, which `tests/expected/parity/README.md` describes."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

Json = dict[str, Any]
FOLDER = Path(__file__).parent / "expected" / "parity"


def file_of(name: str, kind: str) -> Path:
    """Where the recording of a network lies; `kind` is keys, forward or trace."""
    return FOLDER / f"{name}.{kind}.json.gz"


def exists(name: str, kind: str) -> bool:
    """Whether there is such a recording; of networks whose outputs take long to record there are the keys only."""
    return file_of(name, kind).exists()


def read(name: str, kind: str) -> Json:
    """What was recorded of a network; `kind` is keys, forward or trace."""
    return _read(file_of(name, kind))


def measured(name: str) -> Json:
    """What fvcore counted of a published network."""
    found: Json = _read(FOLDER / "measured.json.gz")[name]
    return found


def _read(path: Path) -> Json:
    loaded: Json = json.loads(gzip.decompress(path.read_bytes()))
    return loaded


def recorded_weight(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value that an entry of a state dict had when the network was recorded, float32.

    Its numbers come from a generator that the key seeds, scaled as such an entry is in a trained network.
    """
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")
    n = np.random.Generator(np.random.PCG64(seed)).standard_normal(math.prod(shape))
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        value = 1 + 0.2 * np.abs(n)
    elif last == "running_mean":
        value = 0.1 * n
    elif last in ("temperature", "temperature2"):
        value = 8 * (1 + 0.1 * n)
    elif last in ("pos_embed", "position_embeddings", "cls_token", "mask_token", "relative_position_bias_table"):
        value = 0.5 * n
    elif last == "EF":
        value = n / math.sqrt(shape[0])
    elif last == "bias":
        value = 0.1 * n
    elif len(shape) <= 1:
        value = 1 + 0.1 * n
    else:
        value = n * math.sqrt(shape[0] / math.prod(shape))
    return value.astype(np.float32).reshape(shape)


def recorded_input(recording: Json) -> Tensor:
    """The input that the network was recorded on."""
    shape = recording["input_shape"]
    x = np.random.Generator(np.random.PCG64(1234)).standard_normal(math.prod(shape)).astype(np.float32)
    assert x[:4].tolist() == recording["input_first4"]
    return torch.from_numpy(x.reshape(shape))


def check_outputs(outputs: list[Tensor], recorded: list[Json], bound: float) -> None:
    """Asserts that outputs are the recorded ones.

    Args:
        outputs: of our network.
        recorded: shape, statistics and 64 values of each output.
        bound: the largest difference, in units of the output's largest value.
    """
    assert len(outputs) == len(recorded)
    for i, (output, record) in enumerate(zip(outputs, recorded, strict=True)):
        assert list(output.shape) == record["shape"]
        flat = output.detach().double().flatten()
        statistics = {"mean": flat.mean(), "std": flat.std(correction=0), "absmax": flat.abs().max()}
        for name, value in statistics.items():
            assert abs(float(value) - record[name]) <= bound * record["absmax"], f"output {i}: {name}"
        assert float(flat.norm()) == pytest.approx(record["l2"], rel=max(bound, 1e-12)), f"output {i}: l2"
        index = torch.tensor(record["idx"])
        assert index.tolist() == [k * (flat.numel() - 1) // 63 for k in range(64)]
        difference = (flat[index] - torch.tensor(record["values"], dtype=torch.float64)).abs().max()
        assert float(difference) <= bound * record["absmax"], f"output {i}: values"


def mean_square(outputs: list[Tensor]) -> Tensor:
    """The mean square of all outputs together, which gradients were recorded of."""
    total = sum((output.square().sum() for output in outputs), torch.zeros((), dtype=outputs[0].dtype))
    return total / sum(output.numel() for output in outputs)
