"""What the authors' networks initialize themselves, and to which law."""

from __future__ import annotations

import math

import torch
from torch import nn

from initbench.backbones.unetrpp import EPA, TransformerBlock
from tests.backbones.built import CHANNELS, build, spread


def test_unetrpp_initializes_only_the_linear_layers_of_its_encoder() -> None:
    model = build("unetrpp", "lung", (32, 64, 64))
    for key, module in model.named_modules():
        if isinstance(module, nn.Linear):
            bias = module.bias
            if key.startswith("unetr_pp_encoder"):
                assert spread(module.weight, 0.02), key
                assert bias is None or not bias.any(), key
            else:
                assert spread(module.weight, 1 / math.sqrt(3 * module.in_features)), key
                assert bias is None or bias.any(), key
        elif isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            bound = 1 / math.sqrt(module.weight[0].numel())
            assert float(module.weight.detach().abs().max()) <= bound, key
            assert spread(module.weight, bound / math.sqrt(3)), key
        elif isinstance(module, TransformerBlock):
            assert torch.equal(module.gamma, torch.full_like(module.gamma, 1e-6))
            assert not module.pos_embed.any()
            assert torch.equal(module.epa_block.temperature, torch.ones(4, 1, 1))
            assert torch.equal(module.epa_block.temperature2, torch.ones(4, 1, 1))


def test_the_bare_projection_of_tumor_is_uniform_by_its_length() -> None:
    model = build("unetrpp", "tumor", (64, 64, 64))
    matrices = [module.EF.detach() for module in model.modules() if isinstance(module, EPA)]
    assert matrices
    for matrix in matrices:
        bound = 1 / math.sqrt(matrix.shape[1])
        assert float(matrix.abs().max()) <= bound
        assert spread(matrix, bound / math.sqrt(3))


def test_unetr_initializes_its_embeddings() -> None:
    model = build("unetr", "perceptron", (64, 64, 64))
    weights = {key: p.detach() for key, p in model.named_parameters()}
    patches = "vit.patch_embedding.patch_embeddings.1."
    assert spread(weights["vit.patch_embedding.position_embeddings"], 0.02)
    assert spread(weights[patches + "weight"], 0.02)
    assert not weights[patches + "bias"].any()
    assert spread(weights["vit.blocks.0.attn.qkv.weight"], 1 / math.sqrt(3 * 96))
    conv = build("unetr", "conv", (64, 64, 64)).state_dict()["vit.patch_embedding.patch_embeddings.weight"]
    assert spread(conv, 1 / math.sqrt(3 * CHANNELS * 16**3))


def test_swin_unetr_initializes_its_position_tables_only() -> None:
    for key, p in build("swin_unetr", "default", (64, 64, 64)).state_dict().items():
        if key.endswith("relative_position_bias_table"):
            assert spread(p, 0.02), key
        elif key.endswith(("qkv.weight", "linear1.weight", "linear2.weight")):
            assert spread(p, 1 / math.sqrt(3 * p.shape[1])), key
