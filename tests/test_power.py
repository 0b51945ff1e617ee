"""What a study could find, against the formulas, the specification's table and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from initbench.stats.components import Components, components
from initbench.stats.design import Refused
from initbench.stats.mrmc import crossed_difference, nested_difference, two_sided
from initbench.stats.power import Pilot, detectable, detectable_ratio, error, floor, freedom, pilot, power, seeds_needed, stated
from tests.simulated import LUNG, scores

LUNG_PILOT = stated(LUNG["seed"], LUNG["init_case"], LUNG["residual"])


def mde(pilot: Pilot, seeds: int, cases: int, comparisons: int = 1) -> float:
    got = detectable(pilot, seeds, cases, comparisons)
    assert isinstance(got, float)
    return got


def test_the_variance_by_hand() -> None:
    one = Pilot(4.0, 9.0, 100.0)
    assert error(one, 5, 20) ** 2 == pytest.approx((4 + 100 / 20) / 5 + 9 / 20)
    per_seed = 20 * 4 + 100
    assert freedom(one, 5, 20) == pytest.approx(4 * ((per_seed + 5 * 9) / per_seed) ** 2)
    assert freedom(Pilot(4.0, 9.0, 100.0, "nested"), 5, 20) == pytest.approx(2 * freedom(one, 5, 20))
    assert (LUNG_PILOT.seed, LUNG_PILOT.case, LUNG_PILOT.residual) == (4.5, 18.0, 200.0)


@pytest.mark.parametrize(("sd", "single", "family"), [(1, (10, 5), (21, 9)), (2, (34, 10), (68, 21)), (3, (73, 20), (147, 41))])
def test_seeds_for_one_and_two_points_as_the_tables_say(sd: int, single: tuple[int, int], family: tuple[int, int]) -> None:
    one = Pilot(sd**2, 0.0, 0.0)  # only seeds: scope B
    assert tuple(seeds_needed(one, 63, d) for d in (1.0, 2.0)) == single
    assert tuple(seeds_needed(one, 63, d, comparisons=28) for d in (1.0, 2.0)) == family


@pytest.mark.parametrize("seeds", [3, 5, 10, 40])
def test_the_detectable_difference_is_found_with_80_percent(seeds: int) -> None:
    found = mde(LUNG_PILOT, seeds, 63)
    assert power(LUNG_PILOT, seeds, 63, found) == pytest.approx(0.8, abs=1e-6)
    df = freedom(LUNG_PILOT, seeds, 63)
    by_central_t = (stats.t.ppf(0.975, df) + stats.t.ppf(0.8, df)) * error(LUNG_PILOT, seeds, 63)
    assert found == pytest.approx(by_central_t, rel=0.05)


def test_more_of_anything_finds_more_and_the_floor_stays() -> None:
    found = [mde(LUNG_PILOT, seeds, 63) for seeds in (2, 3, 5, 10, 100, 3000)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(floor(LUNG_PILOT, 63), rel=0.01)
    assert found[-1] > floor(LUNG_PILOT, 63)
    assert floor(LUNG_PILOT, 63) == pytest.approx((1.959964 + 0.841621) * math.sqrt(18 / 63))
    assert mde(LUNG_PILOT, 5, 63, 28) > mde(LUNG_PILOT, 5, 63)
    assert mde(LUNG_PILOT, 5, 63) < mde(LUNG_PILOT, 5, 30)


def test_without_a_difference_power_is_the_size() -> None:
    assert power(LUNG_PILOT, 5, 63, 0.0) == pytest.approx(0.05)
    assert power(LUNG_PILOT, 5, 63, -2.0) == pytest.approx(power(LUNG_PILOT, 5, 63, 2.0))
    assert power(LUNG_PILOT, 5, 63, 500.0) == pytest.approx(1.0)


@pytest.mark.parametrize("design", ["crossed", "nested"])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_power_is_that_of_the_test(design: str, seeds: int) -> None:
    y = scores(np.random.default_rng(seeds), 4000, 2, seeds, 63, **LUNG)
    y[:, 0] += 3.0
    estimate = crossed_difference(y[:, 0] - y[:, 1]) if design == "crossed" else nested_difference(y[:, 0], y[:, 1])
    measured = float((two_sided(estimate) < 0.05).mean())
    planned = stated(LUNG["seed"], LUNG["init_case"], LUNG["residual"], design)  # type: ignore[arg-type]
    assert power(planned, seeds, 63, 3.0) == pytest.approx(measured, abs=0.05)


@pytest.mark.parametrize("design", ["crossed", "nested"])
def test_a_pilot_of_many_runs_is_the_truth(design: str) -> None:
    y = scores(np.random.default_rng(1), 1, 6, 40, 200, **LUNG, shared=4.0 if design == "crossed" else 0.0)[0]
    found = components(y, design)  # type: ignore[arg-type]
    assert isinstance(found, Components)
    got = pilot(found)
    assert isinstance(got, Pilot)
    assert (got.seed, got.case, got.residual) == pytest.approx((4.5, 18.0, 200.0), rel=0.2)
    assert got.design == design


def test_what_cannot_be_found_is_said() -> None:
    got = seeds_needed(LUNG_PILOT, 63, 1.0)
    assert isinstance(got, Refused)
    assert got.reason == "no number of seeds finds 1 points: the noise of 63 cases alone hides up to 1.5"
    assert isinstance(seeds_needed(Pilot(1e8, 0.0, 0.0), 63, 1.0), Refused)
    assert isinstance(detectable(LUNG_PILOT, 1, 63), Refused)
    assert math.isnan(power(LUNG_PILOT, 1, 63, 5.0))
    with pytest.raises(ValueError, match="0 or more"):
        Pilot(-1.0, 0.0, 0.0)
    one_init = components(scores(np.random.default_rng(2), 1, 1, 3, 5)[0])
    assert isinstance(one_init, Components)
    assert isinstance(pilot(one_init), Refused)


def test_ratios_of_seed_sds_that_can_be_found() -> None:
    """Power .84 for a ratio of 2 over 8 blocks of 5 seeds in the specification; and its example of 3 over two blocks, by z."""
    found = detectable_ratio(5, 8)
    assert isinstance(found, float)
    assert 1.8 < found < 2
    weighted = detectable_ratio(5, 2, weighted=True)
    assert weighted == pytest.approx(3, abs=0.1)
    assert isinstance(detectable_ratio(5, 1), Refused)
    by_t = detectable_ratio(5, 2)
    assert isinstance(by_t, float)
    assert by_t > 100
