"""The built-ins, as strings: listing them imports none of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from initbench.protocols.basics import Dimension

Kind = Literal["initializer", "backbone", "dataset", "regimen", "executor"]


@dataclass(frozen=True)
class Entry:
    """A component: where it is and one line about it; of a backbone also whether it sees slices (2) or volumes (3)."""

    target: str
    summary: str
    learned: bool = False
    dimension: Dimension = 3


_I = "initbench.initializers"
INITIALIZERS = {
    "default": Entry(f"{_I}.default:default", "as the authors construct the network (the baseline)"),
    "uniform": Entry(f"{_I}.laws:uniform", "U(±1/√fan_in), the usual framework default, on every layer (eq. 5)"),
    "xavier-uniform": Entry(f"{_I}.laws:xavier_uniform", "U(±gain·√(6/(fan_in+fan_out))) (eq. 1, corrected)"),
    "xavier-normal": Entry(f"{_I}.laws:xavier_normal", "N(0, gain·√(2/(fan_in+fan_out))) (eq. 2)"),
    "kaiming-uniform": Entry(f"{_I}.laws:kaiming_uniform", "U(±gain·√(3/fan)) (eq. 3)"),
    "kaiming-normal": Entry(f"{_I}.laws:kaiming_normal", "N(0, gain/√fan) (eq. 4)"),
    "trunc-normal": Entry(f"{_I}.laws:trunc_normal", "N(0, std), std 0.02, cut off at ±2 (an absolute bound, as in torch)"),
    "he-leaky": Entry(f"{_I}.laws:he_leaky", "N(0, √(2/((1+slope²)·fan))), nnU-Net's law of convolutions (slope 0.01)"),
    "orthogonal": Entry(f"{_I}.orthogonal:orthogonal", "semi-orthogonal maps, uniform among them (Saxe et al.)"),
    "zero-residual": Entry(f"{_I}.zero_residual:zero_residual", "every residual block begins as its shortcut alone"),
    "lsuv": Entry(f"{_I}.lsuv:lsuv", "orthogonal, then every layer's output scaled to variance 1 on patches, no training"),
    "mae": Entry(f"{_I}.masking:mae", "random cube masking, reconstruction on the training volumes", learned=True),
    "tube": Entry(f"{_I}.masking:tube", "one in-plane mask along the whole depth, reconstruction", learned=True),
    "order": Entry(f"{_I}.order:order", "order prediction of shuffled slabs on every encoder level", learned=True),
    "lwi": Entry(f"{_I}.lwi:lwi", "learnable weight initialization: order prediction and masking together", learned=True),
    "lwi-as-released": Entry(f"{_I}.lwi:lwi_as_released", "what the released code of LWI does", learned=True),
    "swin-ssl": Entry(f"{_I}.checkpoint:swin_ssl", "Tang et al.'s self-supervised Swin encoder (path=model_swinvit.pt)"),
    "shuffled": Entry(f"{_I}.controls:shuffled", "control, shuffled(lwi): a learned init's scale without its content"),
    "transfer": Entry(f"{_I}.controls:transfer", "control, transfer(lwi, part=encoder): a learned init in one part alone"),
    "checkpoint": Entry(f"{_I}.checkpoint:checkpoint", "weights from a file (path=...): MONAI, nnU-Net, safetensors"),
    "images": Entry(f"{_I}.images:images", "a timm image encoder (path=..., or download=True) in a network that contains it"),
    "inflate-2d": Entry(
        f"{_I}.inflate_2d:inflate_2d",
        "a timm image encoder (source=..., path=...) in a network of volumes, its kernels inflated to 3D",
    ),
}

_B = "initbench.backbones"
BACKBONES = {
    "unetr": Entry(f"{_B}.unetr:unetr", "ViT encoder, convolutional decoder (variants: perceptron, conv, each also -xyz)"),
    "unetrpp": Entry(f"{_B}.unetrpp:unetrpp", "efficient paired attention (variants: synapse, lung, acdc, tumor)"),
    "swin-unetr": Entry(
        f"{_B}.swin_unetr:swin_unetr", "shifted-window encoder (variants: default, legacy-merge, each also -xyz)"
    ),
    "nnformer": Entry(f"{_B}.nnformer:nnformer", "local, global and skip attention in windows (variants: synapse, acdc, tumor)"),
    "unet": Entry(f"{_B}.unet:unet", "the plain U-Net of nnU-Net, the convolutional control"),
    "unet-2d": Entry(f"{_B}.unet_2d:unet_2d", "the same for slices, nnU-Net's 2D configuration", dimension=2),
    "omnia-net": Entry(f"{_B}.omnia_net:omnia_net", "EfficientNet encoder, for slices (variants: b0, b4, lite0)", dimension=2),
    "transunet": Entry(f"{_B}.transunet:transunet", "ResNet and ViT as encoder, convolutional decoder, for slices", dimension=2),
    "swin-unet": Entry(f"{_B}.swin_unet:swin_unet", "shifted-window encoder and decoder, for slices", dimension=2),
    "missformer": Entry(f"{_B}.missformer:missformer", "hierarchical transformer with a bridge, for slices", dimension=2),
    "dx-net": Entry(f"{_B}.dx_net:dx_net", "Omnia-Net with every layer made for volumes (variants: default, lite0)"),
    "ds-net": Entry(
        f"{_B}.ds_net:ds_net", "3D encoder and decoder around a network of images; one patch of 128 slices at a time"
    ),
}

_D = "initbench.datasets"
DATASETS = {
    "phantom-lung": Entry(f"{_D}.phantom:phantom_lung", "procedural chest CT with heart and nodules, no download"),
    "lung": Entry(f"{_D}.msd:lung", "MSD Task06_Lung: lung cancer on CT, 63 cases, published 50/13 split"),
    "hippocampus": Entry(f"{_D}.msd:hippocampus", "MSD Task04_Hippocampus: anterior and posterior hippocampus on MR"),
    "brats": Entry(f"{_D}.msd:brats", "MSD Task01_BrainTumour: nested tumour regions on four MR channels, split 387/73/24"),
    "synapse": Entry(f"{_D}.synapse:synapse", "13 abdominal organs on CT, 30 cases, TransUNet's split 18/12"),
    "synapse-8": Entry(
        f"{_D}.synapse:synapse_8", "the same with 8 of the organs, the others in the background, as TransUNet has it"
    ),
    "btcv": Entry(f"{_D}.synapse:btcv", "the same 30 cases, MONAI's split 24/6"),
    "acdc": Entry(f"{_D}.acdc:acdc", "heart on cine MR, 100 patients with two frames each, nnFormer's split 70/10/20"),
    "chaos": Entry(f"{_D}.chaos:chaos", "CHAOS: four abdominal organs on T2-SPIR MR, 20 patients, or a converted folder"),
    "chaos-t1": Entry(f"{_D}.chaos:chaos_t1", "the same patients on T1-DUAL MR, in and out of phase as two channels"),
    "chaos-ct": Entry(f"{_D}.chaos:chaos_ct", "CHAOS: the liver on CT, 20 others"),
    "camus": Entry(f"{_D}.camus:camus", "heart on ultrasound, 500 patients with two views each, stacks of frames"),
}

_R = "initbench.regimens"
REGIMENS = {
    "plain": Entry(f"{_R}.plain:plain", "segmentation of labelled patches and nothing else (the baseline)"),
    "medcontext": Entry(
        f"{_R}.medcontext:medcontext", "the same patches again with hidden tokens, beside a moving-average teacher"
    ),
    "medcontext-as-released": Entry(f"{_R}.medcontext:medcontext_as_released", "what the released code of MedContext does"),
}

EXECUTORS = {
    "local": Entry("initbench.executors.local:local", "worker processes on this machine, which draw from one queue"),
    "ray": Entry("initbench.executors.ray:on_ray", "tasks of a Ray cluster that this machine is a node of (initbench[ray])"),
    "slurm": Entry("initbench.executors.slurm:slurm", "a run in each task of an array of Slurm; the command ends at once"),
}

CATALOG: dict[Kind, dict[str, Entry]] = {
    "initializer": INITIALIZERS,
    "backbone": BACKBONES,
    "dataset": DATASETS,
    "regimen": REGIMENS,
    "executor": EXECUTORS,
}
GROUPS: dict[Kind, str] = {
    "initializer": "initbench.initializers",
    "backbone": "initbench.backbones",
    "dataset": "initbench.datasets",
    "regimen": "initbench.regimens",
    "executor": "initbench.executors",
}
