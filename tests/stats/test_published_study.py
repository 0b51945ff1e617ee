"""A published multi-reader multi-case study: 5 readers, 2 treatments, 114 patients of Van Dyke et al. (1993).

The numbers are those of OR-DBM MRMC 2.51, trapezoidal areas and jackknife (RJafroc:inst/Iowa/VanDyke.txt@44b0e39): areas per
reader and treatment, and the components that belong to them. The statistics see the patients through three mean squares alone, so
scores with those mean squares have to give the published estimate, its error, F, degrees of freedom and p. Intervals and p of a
pair are not Hillis' but those of `tails`, which hold for few readers (and families of pairs); what he printed is beside them.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from initbench.stats.compare import compare, difference
from initbench.stats.design import Refused
from initbench.stats.inits import summarize
from initbench.stats.meansquares import two_way
from initbench.stats.mrmc import crossed_difference

AREAS = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
PATIENTS = 114
TREATMENT_PATIENT, REST = 0.01197530, 0.03997160  # Var(T*C), Var(T*R*C) + Var(Error)
COV2 = (0.00048396, 0.00020419)  # of the treatments alone


def layout(means: np.ndarray, case: float, rest: float) -> np.ndarray:
    """Scores [seed, case] with these means of the seeds, and exactly these mean squares: C − E = S · `case`, E = `rest`."""
    rng, S = np.random.default_rng(0), len(means)
    of_case, left = rng.normal(size=PATIENTS), rng.normal(size=(S, PATIENTS))
    of_case -= of_case.mean()
    left -= left.mean(0) + left.mean(1, keepdims=True) - left.mean()
    of_case *= np.sqrt((case + rest / S) / of_case.var(ddof=1))
    left *= np.sqrt(rest * (S - 1) * (PATIENTS - 1) / (left**2).sum())
    y = means[:, None] + of_case + left
    _, cases, residual = two_way(y)
    assert (float(cases.value), float(residual.value)) == pytest.approx((S * case + rest, rest))
    return y


def treatments() -> np.ndarray:
    """Scores [treatment, reader, patient]: half of what the treatments differ by, with both signs."""
    d = layout(AREAS[0] - AREAS[1], 2 * TREATMENT_PATIENT, 2 * REST)
    return np.stack([AREAS.mean(0)[:, None] + d / 2, AREAS.mean(0)[:, None] - d / 2])


def test_new_readers_and_new_patients() -> None:
    y = treatments()
    estimate = crossed_difference(y[0] - y[1])
    assert float(estimate.value) == pytest.approx(-0.04380032, abs=1e-8)
    assert float(estimate.error) == pytest.approx(0.02075, abs=5e-6)
    df = float(estimate.df_seeds / estimate.share**2)
    assert df == pytest.approx(15.26, abs=0.005)
    half = stats.t.ppf(0.975, df) * float(estimate.error)
    assert (float(estimate.value) - half, float(estimate.value) + half) == pytest.approx((-0.08796, 0.00036), abs=6e-6)
    found = difference(*y)
    assert (found.estimate.value, found.error) == pytest.approx((-0.04380032, 0.02075), abs=5e-6)
    # Between the quantiles of 4 and of 113 degrees of freedom; five readers count a little more than by Hillis' rule.
    distances = -found.estimate.low / found.error + found.estimate.value / found.error
    assert stats.t.ppf(0.975, 113) < distances < stats.t.ppf(0.975, 4)
    assert found.estimate.high == pytest.approx(0.00036, abs=0.01)
    assert 0.0517 < found.p < 0.1
    assert found.verdict == "equivalent"  # AUCs lie far within half a point of Dice


def test_the_same_as_f() -> None:
    found = compare(treatments(), ("1", "2")).omnibus
    assert not isinstance(found, Refused)
    assert (found.df1, found.df2) == pytest.approx((1, 15.26), abs=0.005)
    assert (found.f, found.p) == pytest.approx((4.46, 0.0517), abs=0.005)


def test_new_readers_and_these_patients() -> None:
    found = difference(*treatments(), scope="B")
    assert found.error == pytest.approx(0.01485, abs=5e-6)
    assert found.p == pytest.approx(0.0420, abs=5e-5)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((-0.08502, -0.00258), abs=6e-6)


@pytest.mark.parametrize(("treatment", "error"), [(0, 0.03317360), (1, 0.02156637)])
def test_one_treatment(treatment: int, error: float) -> None:
    """The published error of the mean. The interval has more than the published degrees of freedom allow for: see its formula."""
    y = layout(AREAS[treatment], PATIENTS * COV2[treatment], 0.04)
    seeds, cases, rest = two_way(y)
    noise = float(seeds.value + cases.value - rest.value)
    assert np.sqrt(noise / y.size) == pytest.approx(error, abs=5e-8)
    (found,) = summarize(y[None], ("treatment",))
    spread = float(seeds.value) ** 2 / 4 + float(cases.value) ** 2 / (113 / 2) + float(rest.value) ** 2 / 452
    half = stats.t.ppf(0.975, noise**2 / spread) * error
    assert found.mean.low == pytest.approx(AREAS[treatment].mean() - half, abs=1e-6)
    assert found.mean.high == pytest.approx(AREAS[treatment].mean() + half, abs=1e-6)
