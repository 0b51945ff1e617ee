"""LWI's own networks with their order heads, out of our parts: backbone, checkpoint loader, heads with the pool of the release.

Their weights come as a file under their keys, so this shows as well that such files are read right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.unetr import unetr
from initbench.backbones.unetrpp import unetrpp
from initbench.checkpoints.matching import Request, load_checkpoint
from initbench.checkpoints.reading import read_checkpoint
from initbench.pretext.objectives import OrderHeads, Pool, Taps
from initbench.protocols import Grid, structure_of
from tests import recordings
from tests.recordings import check_outputs, mean_square, recorded_input, recorded_weight

Json = dict[str, Any]
FIXTURES = [
    "lwi_unetr_ssl",
    "lwi_unetr_finetune14",
    "lwi_unetrpp_synapse_ssl",
    "lwi_unetrpp_synapse_seg",
    "lwi_unetrpp_lung_ssl",
    "lwi_unetrpp_lung_seg",
]
# Built by MONAI 0.7 and used by nothing; and built by MONAI 1.6, used by nothing.
THEIRS = ("cls_token", "encoder2.blocks.0.1.conv3", "encoder2.blocks.1.1.conv3", "encoder3.blocks.0.1.conv3")
OURS = ("norm_cross_attn",)


@dataclass
class Network:
    """A backbone and, for the pretext, its order heads."""

    model: nn.Module
    heads: OrderHeads | None

    def __call__(self, x: Tensor) -> list[Tensor]:
        taps = Taps(self.model, structure_of(self.model).levels, enough=False)
        output, features = taps.run(x)
        taps.remove()
        logits = output if isinstance(output, list) else [output]
        return [*logits, *(self.heads(features) if self.heads is not None else [])]

    def gradients(self) -> dict[str, Tensor | None]:
        """By the authors' names."""
        found = {theirs(key, self.model): p.grad for key, p in self.model.named_parameters()}
        if self.heads is not None:
            found |= {head_key(key, self.model): p.grad for key, p in self.heads.named_parameters()}
        return found


def build(name: str, recording: Json, *, meta: bool = False) -> Network:
    d, h, w = recording["crop"]
    patch: Grid = (d, h, w)
    plus = "unetrpp" in name
    options: Json = {"in_channels": recording["in_channels"], "num_classes": recording["classes"], "patch_size": patch}
    with torch.device("meta" if meta else "cpu"):
        if plus:
            model = unetrpp(**options, variant="synapse" if "synapse" in name else "lung", deep_supervision=True)
        else:
            model = unetr(**options)  # as it is in their files: its first axis is their x
        levels, pool = structure_of(model).levels, ("interleaved" if plus else "depth")
        heads = OrderHeads(levels, 4 if plus else 6, pool)  # type: ignore[arg-type]
    return Network(model, heads if name.endswith("ssl") else None)


def theirs(key: str, model: nn.Module) -> str:
    return key.replace("out.conv.conv.", "out.conv.") if getattr(model, "finetuned", False) else key


def head_key(key: str, model: nn.Module) -> str:
    _, number, leaf = key.split(".")
    prefix = "vit." if "vit" in dict(model.named_children()) else ""
    return f"{prefix}temp_head{int(number) + 1}.{leaf}"


def fill(network: Network, recording: Json, folder: Any) -> None:
    """Writes their state dict as they save it, loads it, and copies the heads, which the loader leaves to the harness."""
    state = {
        key: torch.from_numpy(recorded_weight(key, tuple(shape)))
        for key, shape, dtype, _ in recording["state_dict"]
        if "float" in dtype
    }
    path = folder / "model_final.pt"
    torch.save(
        {"epoch": 799, "best_acc": np.float32(0), "state_dict": {f"module.{key}": value for key, value in state.items()}}, path
    )
    structure = structure_of(network.model)
    report = load_checkpoint(network.model, read_checkpoint(path), structure, Request(axes="DHW"))
    assert report.share == 1
    assert report.missing == ()
    with torch.no_grad():
        for head in structure.heads:
            for key, p in network.model.get_submodule(head).named_parameters():
                name = f"{head}.{key}"
                p.copy_(state[name] if name in state else state[name.replace("conv.conv.", "conv.")])
        if network.heads is not None:
            for key, p in network.heads.named_parameters():
                p.copy_(state[head_key(key, network.model)])


@pytest.mark.parametrize("name", FIXTURES)
def test_keys_in_order_and_shapes(name: str) -> None:
    recording = recordings.read(name, "keys")
    network = build(name, recording, meta=True)
    entries = [
        (key, list(value.shape)) for key, value in network.model.state_dict().items() if not any(part in key for part in OURS)
    ]
    if "finetune" in name:
        entries = [(key.replace("out.conv.conv.", "out.conv."), shape) for key, shape in entries]
    # The heads are in every one of their networks, used or not.
    slabs = 4 if "unetrpp" in name else 6
    heads = OrderHeads(structure_of(network.model).levels, slabs)
    order = [(head_key(key, network.model), list(p.shape)) for key, p in heads.named_parameters()]
    last = max((i for i, (key, _) in enumerate(entries) if key.startswith("vit.")), default=len(entries) - 1)
    entries[last + 1 : last + 1] = order
    expected = [(key, shape) for key, shape, *_ in recording["state_dict"] if not any(part in key for part in THEIRS)]
    assert entries == expected


@pytest.mark.full
@pytest.mark.parametrize("name", [name for name in FIXTURES if recordings.exists(name, "forward")])
def test_outputs_and_gradients(name: str, tmp_path: Any) -> None:
    recording = recordings.read(name, "forward")
    network = build(name, recording)
    network.model.finetuned = "finetune" in name  # type: ignore[assignment]
    fill(network, recordings.read(name, "keys"), tmp_path)
    network.model.eval()
    plus = "unetrpp" in name
    outputs = network(recorded_input(recording))
    check_outputs(outputs, recording["outputs"], 2e-4 if plus else 1e-5)
    mean_square(outputs).backward()
    gradients = network.gradients()
    bound = 3e-2 if plus else 1e-2
    for key, norm in recording["grad_l2"].items():
        gradient = gradients[key]
        assert gradient is not None, key
        assert abs(float(gradient.double().norm()) - norm) <= max(bound * norm, 1e-6), key
    assert {key for key, g in gradients.items() if g is not None} == set(recording["grad_l2"])


@pytest.mark.parametrize("pool", ["depth", "width", "interleaved"])
def test_the_pools_differ(pool: Pool) -> None:
    """A head on another pool gives other numbers, so the recordings tell them apart."""
    levels = structure_of(unetr(in_channels=1, num_classes=2, patch_size=(32, 32, 32), size="tiny")).levels[:1]
    features = [torch.randn(1, 8, 96, generator=torch.Generator().manual_seed(0))]
    torch.manual_seed(0)
    reference, heads = OrderHeads(levels, 2), OrderHeads(levels, 2, pool)
    heads.load_state_dict(reference.state_dict())
    assert torch.equal(heads(features)[0], reference(features)[0]) == (pool == "depth")
