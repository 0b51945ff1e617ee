"""The levels that an order prediction asks: those that are named, else all of them, or as many as leave two slabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from initbench.errors import UsageError
from initbench.pretext.levels import Slabs, choose_slabs, slab_count
from initbench.protocols import Level
from initbench.spec import parse

SWIN = (32, 16, 8, 4, 2)
"""Depths of Swin-UNETR's levels for a patch of 64 slices."""


def levels(depths: Sequence[int]) -> tuple[Level, ...]:
    return tuple(Level(f"level {number}", (depth, 4, 4), 8) for number, depth in enumerate(depths, start=1))


def choose(depth: int, depths: Sequence[int], volumes: Sequence[int] = (), taps: Sequence[int] | None = None) -> Slabs:
    return choose_slabs(taps, levels(depths), depth, volumes)


@pytest.mark.parametrize(
    ("depth", "depths", "count"), [(96, [6, 6], 6), (32, [16, 8, 4, 2], 2), (64, [16, 8, 4], 4), (48, [24, 3], 3)]
)
def test_slab_count(depth: int, depths: list[int], count: int) -> None:
    assert slab_count(depth, dict(enumerate(levels(depths)))) == count


@pytest.mark.parametrize(
    ("depth", "depths", "volumes", "asked", "thickness"),
    [
        # All levels, where a volume holds two slabs of the deepest one, as ever: shallower volumes are not drawn from.
        (64, SWIN, (64, 80), (1, 2, 3, 4, 5), 32),
        (64, SWIN, (20, 64), (1, 2, 3, 4, 5), 32),
        (64, SWIN, (), (1, 2, 3, 4, 5), 32),
        (96, (6, 6, 6, 6), (47, 49), (1, 2, 3, 4), 16),
        # Otherwise as many as fit into the shallowest volume.
        (64, SWIN, (63, 63), (1, 2, 3, 4), 16),
        (64, SWIN, (32, 63), (1, 2, 3, 4), 16),
        (64, SWIN, (31, 63), (1, 2, 3), 8),
        (64, SWIN, (15, 63), (1, 2), 4),
        (64, SWIN, (4, 63), (1,), 2),
        # One volume of three slices holds two slabs of no level: it is left out, and the others decide.
        (64, SWIN, (3, 63), (1, 2, 3, 4), 16),
        # A level of one slice is left out likewise, and so is what does not divide.
        (32, (16, 8, 4, 2, 1), (40, 50), (1, 2, 3, 4), 16),
        (32, (16, 8, 4, 2, 1), (), (1, 2, 3, 4), 16),
        (14, (14, 14, 7, 3), (20, 20), (1, 2, 3), 2),
    ],
)
def test_without_taps_as_many_levels_as_leave_two_slabs(
    depth: int, depths: tuple[int, ...], volumes: tuple[int, ...], asked: tuple[int, ...], thickness: int
) -> None:
    found = choose(depth, depths, volumes)
    assert tuple(found.levels) == asked
    assert found.left_out == tuple(range(len(asked) + 1, len(depths) + 1))
    assert found.thickness == thickness
    assert found.count * thickness == depth
    assert found.count >= 2
    if volumes:
        assert 2 * thickness <= max(volumes)


def test_what_is_left_out_is_said() -> None:
    assert choose(64, SWIN, (64,)).summary() == "order of 2 slabs of 32 slices, asked on levels 1, 2, 3, 4, 5"
    narrower = choose(64, SWIN, (47, 49))
    assert narrower.summary() == (
        "order of 4 slabs of 16 slices, asked on levels 1, 2, 3, 4 (level 5 left out, as all levels together leave no two slabs)"
    )
    assert narrower.details() == {"taps": [1, 2, 3, 4], "taps_left_out": [5], "slabs": 4, "slab_slices": 16}


def test_named_levels_keep_their_order_and_numbers() -> None:
    assert list(choose(64, SWIN, (47, 49), taps=(3, 1)).levels) == [3, 1]
    assert choose(64, SWIN, (47, 49), taps=(3, 1)).left_out == ()


@pytest.mark.parametrize(
    ("depth", "depths", "taps"), [(32, [16, 8, 4, 1], (1, 4)), (14, [14, 14, 7, 3], (1, 2, 3, 4)), (3, [3, 1], (1, 2))]
)
def test_named_levels_of_one_slab_are_refused_with_what_works(depth: int, depths: list[int], taps: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=f"patch of depth {depth} leaves the tapped levels") as caught:
        choose(depth, depths, taps=taps)
    told = re.search(r"Patch depths that work: ([\d, ]+),", str(caught.value))
    assert bool(told) == (depth != 14), "a network that cuts borders off has other depths, which only it knows"
    for works in map(int, told[1].split(", ") if told else ()):
        assert choose(works, [found * works // depth for found in depths], taps=taps).count >= 2
    assert choose(depth, depths, taps=suggested(caught.value)).count >= 2


def test_named_levels_whose_slabs_no_volume_holds_are_refused_with_what_works() -> None:
    with pytest.raises(UsageError, match=r"two slabs of 32 slices inside a volume, and the deepest .* has 49") as caught:
        choose(64, SWIN, (47, 49), taps=(2, 5))
    assert "Patch depths" not in str(caught.value), "the slab of a level has its thickness at every patch depth"
    assert suggested(caught.value) == (1, 2, 3, 4)


def test_where_no_level_fits_spacing_is_what_works() -> None:
    with pytest.raises(UsageError, match=r"two slabs of 16 slices inside a volume, and the deepest .* has 31") as caught:
        choose(96, (6, 6), (20, 31))
    assert str(caught.value).endswith("Use a finer spacing along depth (--set preprocess.spacing=D,H,W).")


@pytest.mark.parametrize(
    ("taps", "message"),
    [((1, 9), r"taps \[9\]: the backbone has levels 1 to 5"), ((2, 2), r"taps \[2, 2\]: name each level once")],
)
def test_levels_that_do_not_exist_or_come_twice_are_refused(taps: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose(64, SWIN, taps=taps)


def test_a_network_without_levels_is_refused() -> None:
    with pytest.raises(UsageError, match="the network declares none"):
        choose(64, ())


def suggested(error: UsageError) -> tuple[int, ...]:
    """The taps that a message says work."""
    found = re.search(r"order\(.*\)", str(error))
    assert found
    taps: tuple[int, ...] = dict(parse(found[0]).params)["taps"]
    return taps
