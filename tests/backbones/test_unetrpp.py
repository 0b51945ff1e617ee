"""The parts of UNETR++ against the plainest code that says the same."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from initbench.backbones.unetrpp import EPA, UNETRPP, VARIANTS, WIDTHS, ResBlock, TransformerBlock
from tests.backbones.built import build, noise


def naive_epa(epa: EPA, x: np.ndarray) -> np.ndarray:
    """EPA as sums over single numbers, and its head merge as an address computation."""
    B, N, C = x.shape
    h, d = 4, C // 4
    w = {key: p.detach().numpy() for key, p in epa.state_dict().items()}
    P = w["EF"].shape[1] if "EF" in w else w["E.weight"].shape[0]
    out = np.zeros((B, N, C))
    for b in range(B):
        x_channel, x_spatial = np.zeros((N, C)), np.zeros(N * C)
        for head in range(h):
            rows = [slice(part * C + head * d, part * C + (head + 1) * d) for part in range(4)]
            q, k, v_channel, v_spatial = (w["qkvv.weight"][row] @ x[b].T for row in rows)  # (d, N) each
            kp, vp = np.zeros((d, P)), np.zeros((d, P))
            for j in range(d):
                for p in range(P):
                    if "EF" in w:
                        kp[j, p] = sum(k[j, n] * w["EF"][n, p] for n in range(N))
                        vp[j, p] = sum(v_spatial[j, n] * w["EF"][n, p] for n in range(N))
                    else:
                        kp[j, p] = sum(k[j, n] * w["E.weight"][p, n] for n in range(N)) + w["E.bias"][p]
                        vp[j, p] = sum(v_spatial[j, n] * w["F.weight"][p, n] for n in range(N)) + w["F.bias"][p]
            for j in range(d):
                q[j] = q[j] / math.sqrt(sum(value**2 for value in q[j]))
                k[j] = k[j] / math.sqrt(sum(value**2 for value in k[j]))
            for i in range(d):
                e = [math.exp(w["temperature"][head, 0, 0] * sum(q[i] * k[j])) for j in range(d)]
                for n in range(N):
                    x_channel[n, head * d + i] = sum(e[j] / sum(e) * v_channel[j, n] for j in range(d))
            for n in range(N):
                e = [math.exp(w["temperature2"][head, 0, 0] * sum(q[:, n] * kp[:, p])) for p in range(P)]
                for j in range(d):
                    # Not row n, column head * d + j: the authors lay it out by channel, head, token.
                    x_spatial[(j * h + head) * N + n] = sum(e[p] / sum(e) * vp[j, p] for p in range(P))
        rows_of_c = x_spatial.reshape(N, C)
        if "out_proj.weight" in w:
            spatial = rows_of_c @ w["out_proj.weight"].T + w["out_proj.bias"]
            channel = x_channel @ w["out_proj2.weight"].T + w["out_proj2.bias"]
            out[b] = np.concatenate([spatial, channel], axis=1)
        else:
            out[b] = x_channel + rows_of_c
    return out


@pytest.mark.parametrize("variant", ["synapse", "lung", "tumor"])
def test_epa_equals_its_loops(variant: str) -> None:
    torch.manual_seed(0)
    epa = EPA(6, 8, 3, VARIANTS[variant]).double().eval()
    with torch.no_grad():
        for temperature in (epa.temperature, epa.temperature2):
            temperature.copy_(torch.tensor([2.0, 5.0, 1.0, 9.0]).reshape(4, 1, 1))
        x = noise(2, 6, 8).double()
        assert np.abs(epa(x).numpy() - naive_epa(epa, x.numpy())).max() < 1e-12


def test_the_spatial_branch_scrambles_tokens_and_channels() -> None:
    """With uniform attention every token of a head gets one value, so the merge shows by where it lands."""
    tokens, dim = 5, 8
    epa = EPA(tokens, dim, 3, VARIANTS["tumor"]).eval()
    with torch.no_grad():
        epa.temperature2.zero_()
        epa.EF.fill_(1 / tokens)
        epa.qkvv.weight.zero_()
        # The spatial values are the input; the channel values stay zero.
        epa.qkvv.weight[3 * dim :] = torch.eye(dim)
        row = torch.arange(dim, dtype=torch.float32)
        merged = epa(row.expand(1, tokens, dim))
    # Head h holds channels 2h and 2h + 1. By channel within the head, then head, then token, in rows of 8.
    flat = [float(2 * head + channel) for channel in range(2) for head in range(4) for _ in range(tokens)]
    assert merged.flatten().tolist() == pytest.approx(flat)
    assert not torch.allclose(merged[0], row.expand(tokens, dim))


def naive_conv(x: Tensor, weight: Tensor) -> Tensor:
    """A 3x3x3 convolution with padding 1, one offset at a time."""
    D, H, W = x.shape[2:]
    padded = torch.zeros(*x.shape[:2], D + 2, H + 2, W + 2, dtype=x.dtype)
    padded[:, :, 1:-1, 1:-1, 1:-1] = x
    total = torch.zeros(x.shape[0], weight.shape[0], D, H, W, dtype=x.dtype)
    for d, h, w in np.ndindex(3, 3, 3):
        window = padded[:, :, d : d + D, h : h + H, w : w + W]
        total += torch.einsum("ncdhw,oc->nodhw", window, weight[:, :, d, h, w])
    return total


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def test_residual_block_with_instance_norm_and_another_width() -> None:
    block = ResBlock(2, 3, "instance").double()
    assert list(block.state_dict()) == ["conv1.conv.weight", "conv2.conv.weight", "conv3.conv.weight"]
    w1, w2, w3 = block.state_dict().values()

    def norm(y: Tensor) -> Tensor:
        mean = y.mean((2, 3, 4), keepdim=True)
        return (y - mean) / torch.sqrt((y - mean).square().mean((2, 3, 4), keepdim=True) + 1e-5)

    x = noise(2, 2, 3, 4, 5).double()
    y = norm(naive_conv(leaky(norm(naive_conv(x, w1))), w2))
    residual = norm(torch.einsum("ncdhw,oc->nodhw", x, w3[:, :, 0, 0, 0]))
    assert torch.allclose(block(x), leaky(y + residual), rtol=0, atol=1e-12)


def test_residual_block_with_batch_norm_and_one_width() -> None:
    block = ResBlock(3, 3, "batch").double()
    assert not hasattr(block, "conv3")
    with torch.no_grad():
        for i, (key, tensor) in enumerate(block.state_dict().items()):
            if "norm" in key and tensor.is_floating_point():
                tensor.copy_(noise(3, seed=i).double().abs() + 0.5)
    w = block.state_dict()
    x = noise(2, 3, 3, 4, 5).double()

    def expected(training: bool) -> Tensor:
        def norm(y: Tensor, name: str) -> Tensor:
            mean, var = (w[f"{name}.running_{part}"].reshape(1, 3, 1, 1, 1) for part in ("mean", "var"))
            if training:
                mean = y.mean((0, 2, 3, 4), keepdim=True)
                var = (y - mean).square().mean((0, 2, 3, 4), keepdim=True)
            scale, shift = (w[f"{name}.{part}"].reshape(1, 3, 1, 1, 1) for part in ("weight", "bias"))
            return (y - mean) / torch.sqrt(var + 1e-5) * scale + shift

        y = norm(naive_conv(leaky(norm(naive_conv(x, w["conv1.conv.weight"]), "norm1")), w["conv2.conv.weight"]), "norm2")
        return leaky(y + x)

    assert torch.allclose(block.eval()(x), expected(training=False), rtol=0, atol=1e-12)
    assert torch.allclose(block.train()(x), expected(training=True), rtol=0, atol=1e-12)


def test_the_position_embedding_stays_in_the_residual_path() -> None:
    block = TransformerBlock(24, 8, 3, VARIANTS["synapse"]).eval()
    with torch.no_grad():
        block.gamma.zero_()
        for p in block.conv8.parameters():
            p.zero_()
        block.pos_embed.copy_(noise(1, 24, 8))
        x = noise(1, 8, 2, 3, 4)
        # Tokens are numbered with W fastest.
        assert torch.allclose(block(x), x + block.pos_embed.reshape(1, 2, 3, 4, 8).permute(0, 4, 1, 2, 3))


@pytest.mark.parametrize("variant", VARIANTS)
def test_dropout_depth_and_epsilon_of_the_variants(variant: str) -> None:
    """What an evaluation in single precision does not show."""
    model = UNETRPP(1, 2, (32, 32, 32), variant=VARIANTS[variant], widths=WIDTHS["tiny"])
    blocks = [module for module in model.modules() if isinstance(module, TransformerBlock)]
    assert len(blocks) == 4 * WIDTHS["tiny"].encoder_blocks + 3 * WIDTHS["tiny"].decoder_blocks
    attention = 0.15 if variant == "synapse" else 0.1
    for block in blocks:
        rates = {key: m.p for key, m in block.named_modules() if isinstance(m, (nn.Dropout, nn.Dropout3d))}
        assert rates == {"epa_block.attn_drop": attention, "epa_block.attn_drop_2": attention, "conv8.0": 0.1}
        assert isinstance(block.conv8[0], nn.Dropout3d)
        assert block.norm.eps == 1e-5
    assert {m.eps for m in model.modules() if isinstance(m, nn.GroupNorm)} == {1e-5}


def test_tied_projections_are_one_parameter_under_two_keys() -> None:
    model = build("unetrpp", "synapse", (32, 32, 32))
    state, parameters = model.state_dict(), dict(model.named_parameters())
    tied = [key for key in state if ".epa_block.E." in key]
    assert tied
    for key in tied:
        twin = key.replace(".E.", ".F.")
        assert state[key].data_ptr() == state[twin].data_ptr()
        assert key in parameters
        assert twin not in parameters


@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (2, 2), (3, 1), (4, 4), (6, 2)])
def test_unetrpp_takes_any_number_of_channels(channels: int, groups: int) -> None:
    model = UNETRPP(channels, 2, (16, 32, 32), variant=VARIANTS["synapse"], widths=WIDTHS["tiny"]).eval()
    stem = model.unetr_pp_encoder.downsample_layers[0][1]
    assert isinstance(stem, nn.GroupNorm)
    assert stem.num_groups == groups
    with torch.no_grad():
        assert model(noise(1, channels, 16, 32, 32)).shape == (1, 2, 16, 32, 32)
