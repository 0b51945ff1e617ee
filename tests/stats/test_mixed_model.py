"""Variance components beside a mixed model fitted by restricted likelihood: in balanced tables both are the same numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest

from initbench.stats.components import Components, components
from initbench.stats.design import SeedDesign
from tests.simulated import scores

PARTS: dict[SeedDesign, dict[str, str]] = {
    "nested": {"case": "0 + C(case)", "init_case": "0 + C(init):C(case)", "seed": "0 + C(init):C(seed)"},
    "crossed": {
        "case": "0 + C(case)",
        "init_case": "0 + C(init):C(case)",
        "seed": "0 + C(seed)",
        "seed_init": "0 + C(init):C(seed)",
        "seed_case": "0 + C(seed):C(case)",
    },
}


def fitted(y: np.ndarray, design: SeedDesign) -> dict[str, float]:
    """Components of y [init, seed, case] with the inits fixed; they have to be above 0, where likelihood has no bound."""
    mixed = pytest.importorskip("statsmodels.regression.mixed_linear_model")
    places = np.meshgrid(*map(range, y.shape), indexing="ij")
    frame = pd.DataFrame({name: place.ravel() for name, place in zip(("init", "seed", "case"), places, strict=True)})
    frame = frame.assign(y=y.ravel(), all=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how it converges; the comparison shows whether it did
        model = mixed.MixedLM.from_formula("y ~ C(init)", groups="all", vc_formula=PARTS[design], re_formula="0", data=frame)
        found = model.fit(reml=True, method=["lbfgs"], maxiter=1000)
    return {**dict(zip(model.exog_vc.names, map(float, found.vcomp), strict=True)), "residual": float(found.scale)}


@pytest.mark.parametrize("design", ["nested", "crossed"])
def test_components_are_those_of_restricted_likelihood(design: SeedDesign) -> None:
    rng = np.random.default_rng(3)
    y = scores(rng, 1, 3, 5, 12, seed=4, init_case=5, residual=3, case=12, shared=5 if design == "crossed" else 0)[0]
    if design == "crossed":
        y = y + rng.normal(0, 4, (1, 5, 12))
    ours = components(y, design)
    assert isinstance(ours, Components)
    for name, value in fitted(y, design).items():
        assert getattr(ours, name).raw == pytest.approx(value, rel=2e-3), name
        assert value > 0.5
