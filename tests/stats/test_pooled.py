"""Differences pooled over blocks, named sets of classes, and Dice policies against the libraries they are named after."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from initbench.errors import UsageError
from initbench.stats.cases import class_dice
from initbench.stats.classes import SETS, choose
from initbench.stats.compare import difference
from initbench.stats.design import Refused
from initbench.stats.families import Family
from initbench.stats.mrmc import crossed_difference
from initbench.stats.pooled import Pooled, pool
from initbench.stats.table import ScoreTable, Withheld
from initbench.stats.tails import Estimate, combined, quantile
from tests.simulated import scores
from tests.stats.made_up import scored


def simulated(rng: np.random.Generator, better: float = 0.0, seeds: int = 4, cases: int = 12) -> NDArray[np.float64]:
    """Two inits; the second is better by so many points."""
    case, shared = rng.normal(0, 10, cases), rng.normal(0, 1, (seeds, 1))
    own = rng.normal(0, 1.5, (2, seeds, 1)) + rng.normal(0, 1, (2, 1, cases)) + rng.normal(0, 3, (2, seeds, cases))
    return np.asarray(70 + case + shared + own + np.array([0.0, better])[:, None, None], np.float64)


def pooled(*tables: ScoreTable, **options: Any) -> Pooled:
    found = pool(tables, **options)
    assert isinstance(found, Pooled)
    return found


def lwi(found: Pooled) -> Any:
    (row,) = (row for row in found.inits if row.init == "lwi")
    return row.difference


def test_one_block_pools_to_itself() -> None:
    y = simulated(np.random.default_rng(0))
    alone = difference(y[1], y[0])
    got = lwi(pooled(scored(y)))
    for name in ("value", "low", "high"):
        assert getattr(got.estimate, name) == pytest.approx(getattr(alone.estimate, name))
    assert (got.p, got.p_adjusted, got.error) == pytest.approx((alone.p, alone.p_adjusted, alone.error))
    assert (got.verdict, got.family) == (alone.verdict, Family("baseline", 1))


def test_backbones_of_one_data_set_are_averaged_by_seed_and_case() -> None:
    rng = np.random.default_rng(1)
    first, second = simulated(rng), simulated(rng)
    mean = (first + second) / 2
    alone = difference(mean[1], mean[0])
    got = lwi(pooled(scored(first), scored(second, backbone="unetrpp")))
    for name in ("value", "low", "high"):
        assert getattr(got.estimate, name) == pytest.approx(getattr(alone.estimate, name))


def test_data_sets_are_independent_and_count_the_same() -> None:
    rng = np.random.default_rng(2)
    first, second = simulated(rng), simulated(rng, cases=40)
    parts = [difference(y[1], y[0]) for y in (first, second)]
    got = lwi(pooled(scored(first), scored(second, dataset="acdc")))
    assert got.estimate.value == pytest.approx(np.mean([part.estimate.value for part in parts]))
    assert got.error == pytest.approx(np.hypot(*(part.error for part in parts)) / 2)


def test_squared_errors_and_degrees_of_freedom_of_a_mean_by_hand() -> None:
    """Squared errors 4 and 1, of which the seeds have 3 and .5, the cases 1 and .5 (and in the tails 2 and .5)."""
    fields = (np.array([6.0, 2.0]), np.array([2.0, 1.0]), np.array([0.75, 0.5]), np.array([0.6, 0.5]), [2.0, 4.0], [19.0, 9.0])
    parts = [Estimate(*(np.asarray(field[k]) for field in fields)) for k in range(2)]
    got = combined(parts)
    assert float(got.value) == 4
    assert float(got.error) == pytest.approx(math.sqrt(4 + 1) / 2)
    assert float(got.share) == pytest.approx(3.5 / 5)
    assert float(got.tail_share) == pytest.approx(3.5 / (3.5 + 2 + 0.5))
    assert float(got.df_seeds) == pytest.approx(3.5**2 / (3**2 / 2 + 0.5**2 / 4))
    assert float(got.df_cases) == pytest.approx(2.5**2 / (2**2 / 19 + 0.5**2 / 9))


@pytest.mark.parametrize("count", [2, 4, 6])
def test_alike_data_sets_have_the_sum_of_their_degrees_of_freedom(count: int) -> None:
    numbers = (1.0, 2.0, 0.6, 0.5, 2.0, 11.0)
    got = combined([Estimate(*(np.asarray(number) for number in numbers))] * count)
    assert float(got.error) == pytest.approx(2 / math.sqrt(count))
    assert (float(got.df_seeds), float(got.df_cases)) == pytest.approx((2 * count, 11 * count))
    assert (float(got.share), float(got.tail_share)) == pytest.approx((0.6, 0.5))


def test_data_sets_without_noise_have_a_mean_without() -> None:
    numbers = (1.0, 0.0, 1.0, 1.0, 2.0, 11.0)
    got = combined([Estimate(*(np.asarray(number) for number in numbers))] * 2)
    assert (float(got.error), float(got.share), float(got.tail_share)) == (0, 1, 1)


@pytest.mark.parametrize(("sets", "seeds", "cases"), [(2, 3, 44), (4, 3, 12), (4, 5, 5), (3, 2, 20)])
def test_a_mean_over_data_sets_finds_nothing_where_nothing_is(sets: int, seeds: int, cases: int) -> None:
    """At most .05 and two standard errors of the 1000 studies, .064."""
    rng = np.random.default_rng(sets * cases)
    parts = [crossed_difference(y[:, 0] - y[:, 1]) for y in (scores(rng, 1000, 2, seeds, cases) for _ in range(sets))]
    wrong = 0
    for study in range(1000):
        whole = combined([one_of(part, study) for part in parts])
        wrong += abs(float(whole.value)) > float(quantile(whole, 0.05) * whole.error)
    assert wrong / 1000 <= 0.064


def one_of(part: Estimate, study: int) -> Estimate:
    fields = (part.value, part.error, part.share, part.tail_share)
    return Estimate(*(np.asarray(field[study]) for field in fields), part.df_seeds, part.df_cases)


def test_means_differ_by_exactly_the_printed_difference() -> None:
    """Also where one data set has two backbones and another one: each data set counts the same."""
    rng = np.random.default_rng(11)
    first, second, third = simulated(rng, 2.0), simulated(rng, 9.0) - 20, simulated(rng, -1.0, seeds=3, cases=5)
    tables = (scored(first), scored(second, backbone="unetrpp"), scored(third, dataset="acdc"))
    got = pooled(*tables)
    means = {row.init: row.mean for row in got.inits}
    assert means["lwi"] - means["default"] == pytest.approx(lwi(got).estimate.value, rel=1e-12)
    assert means["lwi"] == pytest.approx(((first[1].mean() + second[1].mean()) / 2 + third[1].mean()) / 2)


def test_patients_of_several_cases_count_once_in_a_mean() -> None:
    y = simulated(np.random.default_rng(12), 2.0)
    whose = (*("a",) * 9, "b", "c", "d")
    got = pooled(replace(scored(y), patients=whose))
    by_patient = np.stack([y[..., :9].mean(-1), y[..., 9], y[..., 10], y[..., 11]], axis=-1)
    alone = difference(by_patient[1], by_patient[0])
    assert lwi(got).estimate.low == pytest.approx(alone.estimate.low)
    means = {row.init: row.mean for row in got.inits}
    assert means["lwi"] == pytest.approx(by_patient[1].mean())
    assert means["lwi"] - means["default"] == pytest.approx(lwi(got).estimate.value)


def test_diverged_runs_are_counted_over_all_blocks() -> None:
    y = simulated(np.random.default_rng(13))
    lost = np.zeros((2, 4), bool)
    lost[1, [0, 2]] = True
    one = replace(scored(y), diverged=lost)
    lost = np.zeros((2, 3), bool)
    lost[:, 1] = True
    other = replace(scored(simulated(np.random.default_rng(14), seeds=3), dataset="acdc"), diverged=lost)
    got = {row.init: (row.diverged, row.collapses.runs) for row in pooled(one, other).inits}
    assert got == {"default": (1, 7), "lwi": (3, 7)}


def test_the_pooled_test_keeps_its_size_and_its_interval_covers() -> None:
    rng = np.random.default_rng(3)
    count, rejected, covered = 1000, 0, 0
    for _ in range(count):
        blocks = [
            scored(simulated(rng, better=1.0), backbone=backbone, dataset=dataset)
            for dataset in ("lung", "acdc")
            for backbone in ("unetr", "unetrpp")
        ]
        got = lwi(pooled(*blocks))
        covered += got.estimate.low <= 1.0 <= got.estimate.high
        null = [scored(block.y - np.array([0.0, 1.0])[:, None, None], **block.block) for block in blocks]  # type: ignore[arg-type]
        rejected += lwi(pooled(*null)).p <= 0.05
    # The size was .03 to .08 and the coverage .92 to .97: degrees of freedom add up now, and quantiles are on the safe side.
    assert 0.02 <= rejected / count <= 0.065
    assert 0.935 <= covered / count <= 0.98


def test_what_is_not_in_every_block_is_left_out_and_named() -> None:
    rng = np.random.default_rng(4)
    y = simulated(rng)
    got = pooled(scored(y), scored(np.stack([*y, y[0] + 1]), ("default", "lwi", "mae"), backbone="unetrpp"))
    assert got.left_out == {"mae": "lung × unetr (not run)"}
    assert {row.init for row in got.inits} == {"default", "lwi"}
    refused = pool([scored(y), scored(y, ("mae", "order"), backbone="unetrpp")])
    assert isinstance(refused, Refused)
    assert refused.reason.startswith(
        "no init is complete in every block: default is not complete in lung × unetrpp (not run); lwi"
    )


def test_blocks_of_other_seeds_or_cases_are_not_averaged() -> None:
    rng = np.random.default_rng(5)
    for other in (simulated(rng, seeds=3), simulated(rng, cases=11)):
        got = lwi(pooled(scored(simulated(rng)), scored(other, backbone="unetrpp")))
        assert got.verdict == "untestable"
        assert "lung: the blocks have other" in got.reason


def test_a_placebo_costs_the_others_nothing() -> None:
    rng = np.random.default_rng(6)
    y = simulated(rng, better=3.0)
    three = np.stack([*y, y[0] + rng.normal(0, 1, y[0].shape)])
    got = pooled(scored(three, ("default", "lwi", "default(construct='other')")))
    assert lwi(got) == lwi(pooled(scored(y)))


def test_a_placebo_has_no_rank_and_takes_none() -> None:
    y = simulated(np.random.default_rng(7), better=3.0)
    got = pooled(scored(np.stack([*y, y[1] + 1]), ("default", "lwi", "default(construct='other')")))
    assert {row.init: (row.rank, row.won) for row in got.inits} == {
        "default(construct='other')": (None, None),
        "lwi": (1.0, 1),
        "default": (2.0, 0),
    }
    alone = pooled(scored(y, ("default(construct='other')", "default(construct='more')")))
    assert {row.rank for row in alone.inits} == {None}


def test_a_control_that_some_block_lacks_is_said_and_nothing_is_compared() -> None:
    y = simulated(np.random.default_rng(8))
    gone = replace(
        scored(y, backbone="unetrpp").only(["lwi"]), withheld=(Withheld("default", "incomplete", "no score", "c", ()),)
    )
    got = pooled(scored(y), gone)
    assert (got.against, got.left_out) == ("default", {"default": "lung × unetrpp (no score)"})
    assert lwi(got).reason == "default is not complete in lung × unetrpp (no score)"
    assert pooled(scored(y).only(["lwi"])).against is None


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({"split": "auto"}, {"split": "published"}, "lung (split auto) and lung (split published) are of the same patients"),
        (
            {"dataset": "synapse", "split": "transunet-18/12"},
            {"dataset": "btcv", "split": "monai-24/6", "backbone": "unet"},
            "btcv (split monai-24/6) and synapse (split transunet-18/12) are of the same patients",
        ),
        ({"dataset": "lung"}, {"dataset": "Task06_Lung"}, "are of the same patients"),
        ({"dataset": "chaos"}, {"dataset": "chaos-t1"}, "are of the same patients"),
        ({"recipe": "a"}, {"recipe": "b"}, "lung × unetr is there with 2 recipes or numbers of steps"),
        ({"steps": 100}, {"steps": 200}, "lung × unetr is there with 2 recipes or numbers of steps"),
    ],
)
def test_blocks_that_would_count_the_same_patients_twice_are_not_pooled(
    first: dict[str, Any], second: dict[str, Any], reason: str
) -> None:
    y = simulated(np.random.default_rng(9))
    refused = pool([scored(y, **first), scored(y, **second)])
    assert isinstance(refused, Refused)
    assert reason in refused.reason


def test_other_recipes_of_other_networks_are_pooled() -> None:
    y = simulated(np.random.default_rng(10))
    assert pooled(scored(y, dataset="chaos"), scored(y, dataset="chaos-ct")).blocks == 2
    assert pooled(scored(y, recipe="a"), scored(y, backbone="unetrpp", recipe="b")).blocks == 2


# --- classes ------------------------------------------------------------------------------------------------------------


BTCV = ["spleen", "rkid", "lkid", "gall", "eso", "liver", "sto", "aorta", "IVC", "veins", "pancreas", "rad", "lad"]


def test_the_eight_organs_of_synapse_are_found_under_the_names_of_data_sets() -> None:
    assert choose(["synapse-8"], BTCV, "btcv") == ("spleen", "rkid", "lkid", "gall", "liver", "sto", "aorta", "pancreas")
    words = ["Left_Kidney", "right kidney", "Liver", "Spleen", "gallbladder", "Stomach", "Aorta", "Pancreas", "esophagus"]
    assert set(choose(["synapse-8"], words, "synapse")) == set(words) - {"esophagus"}
    assert len(SETS["synapse-8"]) == 8
    names = [alias for aliases in SETS["synapse-8"] for alias in aliases]
    assert len(names) == len(set(names))


def test_classes_are_named_and_what_is_missing_is_said() -> None:
    assert choose(["Liver", "spleen"], BTCV, "btcv") == ("liver", "spleen")
    with pytest.raises(UsageError, match="btcv has no class 'heart'; it has spleen, rkid"):
        choose(["heart"], BTCV, "btcv")


# --- Dice policies ------------------------------------------------------------------------------------------------------


def test_policies_are_those_of_monai() -> None:
    from monai.metrics import DiceMetric

    rng = np.random.default_rng(7)
    reference, prediction = (torch.from_numpy(rng.random((6, 1, 4, 4, 4)) > 0.6) for _ in range(2))
    reference[1:3] = False
    prediction[2:4] = False
    counts = pd.DataFrame(
        {
            "tp": (reference & prediction).sum((1, 2, 3, 4)).numpy(),
            "fp": (~reference & prediction).sum((1, 2, 3, 4)).numpy(),
            "fn": (reference & ~prediction).sum((1, 2, 3, 4)).numpy(),
        }
    )
    for policy, ignore in (("monai", True), ("empty-is-one", False)):
        metric = DiceMetric(include_background=True, reduction="none", ignore_empty=ignore)
        expected = metric(prediction.float(), reference.float())[:, 0].numpy()
        assert class_dice(counts, policy).to_numpy() == pytest.approx(expected, nan_ok=True)  # type: ignore[arg-type]
    assert class_dice(counts, "monai").equals(class_dice(counts, "reference-mask"))
    assert class_dice(counts, "worst").tolist()[1:3] == [0, 0]
