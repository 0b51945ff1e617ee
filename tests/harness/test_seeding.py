"""Streams: independent, counter-based, the same for ever; and what they leave untouched."""

from __future__ import annotations

import contextlib
import os

import numpy as np
import pytest
import torch

from initbench import seeding
from initbench.choices import Stream
from initbench.seeding import derive, deterministic, forked, rng, seed_step, torch_generator, torch_seed

STREAMS: tuple[Stream, ...] = ("construct", "init", "head", "order", "augment", "dropout", "pretext")


def test_streams_roots_and_keys_are_all_different() -> None:
    seeds = {
        derive(root, stream, *keys)
        for root in (0, 1, 2, 10, -1)
        for stream in STREAMS
        for keys in [(), (0,), (1,), ("0",), ("",), (0, 0), ("a",), ("a", 11), ("a1", 1), ("a", 1, 1), ("a\0int:1",)]
    }
    assert len(seeds) == 5 * len(STREAMS) * 11


@pytest.mark.parametrize("one", STREAMS)
def test_numbers_of_streams_do_not_correlate(one: Stream) -> None:
    numbers = rng(0, one, 3).standard_normal(4000)
    for other in (rng(0, "order", 4), rng(1, one, 3), rng(0, one, 3, "x")):
        assert abs(float(np.corrcoef(numbers, other.standard_normal(4000))[0, 1])) < 5 / np.sqrt(4000)
    assert np.array_equal(numbers, rng(0, one, 3).standard_normal(4000))


def test_the_generator_is_philox_with_the_seed_as_its_key() -> None:
    for number in range(200):
        plain = np.random.Generator(np.random.Philox(key=derive(0, "order", number)))
        assert np.array_equal(rng(0, "order", number).integers(2**62, size=9), plain.integers(2**62, size=9))


def test_golden_values() -> None:
    """If this fails, every stored result was made with other numbers than the code makes now."""
    seed = derive(0, "init", "layer.weight")
    assert seed == 60632892078426009427180851345149902396
    assert torch_seed(0, "init", "layer.weight") == seed & (2**63 - 1)
    assert rng(0, "order", 5).integers(0, 1000, 5).tolist() == [437, 768, 729, 847, 617]
    drawn = torch.randint(1000, (5,), generator=torch_generator(0, "init", "layer.weight"))
    assert drawn.tolist() == [544, 736, 834, 276, 595]


def test_zero_is_a_seed() -> None:
    assert derive(0, "init") != derive(1, "init")
    assert derive(0, "init") != 0
    assert rng(0, "order", 0).random() == rng(0, "order", 0).random()


def test_torch_seeds_fit() -> None:
    for step in range(200):
        assert 0 <= torch_seed(0, "dropout", step) < 2**63


def test_seed_step_sets_the_global_generator() -> None:
    with torch.random.fork_rng(devices=[]):
        seed_step(0, "dropout", "train", 3)
        first = torch.rand(5)
        torch.rand(7)
        seed_step(0, "dropout", "train", 3)
        assert torch.equal(torch.rand(5), first)
        assert torch.equal(torch.rand(5, generator=torch_generator(0, "dropout", "train", 3)), first)


def test_forked_gives_the_stream_and_puts_the_generator_back() -> None:
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    with forked(3, "construct", "unetr"):
        found = torch.rand(4)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == numpy_before
    assert torch.equal(found, torch.rand(4, generator=torch_generator(3, "construct", "unetr")))
    with contextlib.suppress(RuntimeError), forked(3, "construct"):
        torch.rand(4)
        raise RuntimeError
    assert torch.equal(torch.get_rng_state(), before)


def switches() -> tuple[object, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    )


def test_deterministic_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    before = switches()
    with contextlib.suppress(RuntimeError), deterministic(2):
        assert switches()[:5] == (True, False, False, False, 2)
        torch.rand(3)
        seeding.seed_step(0, "dropout", 1)
        raise RuntimeError
    assert switches() == before
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8", "the user's choice stays"
