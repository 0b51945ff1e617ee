"""Durations and sizes as people read them."""

from __future__ import annotations

import pytest

from initbench.units import disk_size, duration, from_to, gib


@pytest.mark.parametrize(
    ("seconds", "of", "said"),
    [
        (0.4, "", "0 s"),
        (59.4, "", "59 s"),
        (60, "", "1.0 min"),
        (599, "", "10 min"),
        (600, "CPU", "10 CPU-min"),
        (3599, "", "60 min"),
        (3600, "GPU", "1.0 GPU-h"),
        (360_000, "", "100 h"),
    ],
)
def test_a_duration(seconds: float, of: str, said: str) -> None:
    assert duration(seconds, of) == said


@pytest.mark.parametrize(
    ("least", "most", "of", "said"),
    [
        (3600, 43_200, "CPU", "1.0 to 12 CPU-h"),
        (2340, 6840, "CPU", "0.7 to 1.9 CPU-h"),  # 39 minutes
        (20, 240, "", "20 s to 4.0 min"),
        (20, 240, "CPU", "20 CPU-s to 4.0 CPU-min"),
        (110, 110, "", "1.8 min"),
        (36_000, 36_100, "", "10 h"),
        (3, 40, "", "3 to 40 s"),
        (0.1, 0.4, "CPU", "0 CPU-s"),
        (3590, 3610, "", "1.0 h"),
    ],
)
def test_a_range(least: float, most: float, of: str, said: str) -> None:
    assert from_to(least, most, of) == said


def test_sizes() -> None:
    assert gib(1.5 * 2**30) == "1.5 GiB"
    assert gib(4096 * 2**30) == "4,096.0 GiB"
    assert [disk_size(size) for size in (0, 999_400, 20_000_000, 1_500_000_000, 65_000_000_000)] == [
        "0 kB", "999 kB", "20 MB", "1.5 GB", "65 GB",
    ]  # fmt: skip
