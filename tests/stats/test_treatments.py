"""What a row is: an init under a regimen. Its name, its runs, what it is compared with, and the families of such rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from initbench.stats.analysis import verdicts
from initbench.stats.blocks import PLACEBO, by_treatment, is_placebo
from initbench.stats.families import Family, baseline_family, family
from initbench.stats.treatments import Treatment, compared_with, have_regimens, interactions, treatment, treatments
from tests.simulated import scores
from tests.stats.made_up import scored

UNDER = "medcontext"
ROWS = ("default", "default + medcontext", "lwi", "lwi + medcontext")
PLACEBOS = (PLACEBO, f"{PLACEBO} + medcontext")


@pytest.mark.parametrize(
    ("own", "name"),
    [
        (Treatment("lwi"), "lwi"),
        (Treatment("lwi", UNDER), "lwi + medcontext"),
        (Treatment("lwi", UNDER, "compute"), "lwi + medcontext (compute)"),
        (Treatment(PLACEBO, "medcontext(beta=0)"), f"{PLACEBO} + medcontext(beta=0)"),
        (Treatment("checkpoint(path='a + b.pt')"), "checkpoint(path='a + b.pt')"),
        (Treatment("checkpoint(path='a + b.pt')", UNDER), "checkpoint(path='a + b.pt') + medcontext"),
        (Treatment("lwi #1a2b3c", UNDER), "lwi #1a2b3c + medcontext"),
    ],
)
def test_a_name_says_which_treatment_it_is_of(own: Treatment, name: str) -> None:
    assert own.name == name
    assert treatment(name) == own


def test_runs_that_say_nothing_of_a_regimen_are_plain() -> None:
    assert treatments(pd.DataFrame({"init": ["lwi"]})) == [Treatment("lwi")]
    runs = pd.DataFrame(
        {
            "init": ["lwi"] * 5,
            "regimen": ["plain", "plain", UNDER, UNDER, UNDER],
            "regimen_budget": ["any", "compute", "compute", "steps", None],
        }
    )
    names = [found.name for found in treatments(runs)]
    assert names == ["lwi", "lwi", "lwi + medcontext (compute)", "lwi + medcontext", "lwi + medcontext"]


def test_two_cells_of_one_treatment_are_two_rows() -> None:
    runs = pd.DataFrame({"init": ["lwi"] * 4, "regimen": ["plain"] + [UNDER] * 3, "cell": ["a1", "b2", "b2", "c3"]})
    assert [(name, len(own)) for name, own in by_treatment(runs)] == [
        ("lwi", 1),
        ("lwi + medcontext", 2),
        ("lwi #c3 + medcontext", 1),
    ]


def test_a_placebo_is_one_under_every_regimen() -> None:
    assert [is_placebo(name) for name in (*PLACEBOS, *ROWS)] == [True, True, False, False, False, False]
    assert compared_with(PLACEBOS[0], "default") == "default"
    assert compared_with(PLACEBOS[1], "default") == "default + medcontext"
    assert compared_with(PLACEBOS[1], "lwi") == "lwi"
    assert compared_with("lwi + medcontext", "default") == "default"
    assert have_regimens(ROWS)
    assert not have_regimens(("default", "lwi", PLACEBO))


def test_interactions_need_all_four_rows() -> None:
    (found,) = interactions((*ROWS, *PLACEBOS))
    assert found.treatment == Treatment("lwi", UNDER)
    assert found.rows == ("lwi + medcontext", "default", "lwi", "default + medcontext")
    for missing in ROWS:
        assert not interactions([name for name in ROWS if name != missing])
    assert not interactions(["default", "default + medcontext", "lwi", "lwi + medcontext (compute)"])
    several = [Treatment(init, regimen).name for init in ("default", "lwi", "mae") for regimen in ("plain", "a", "b")]
    assert len(interactions(several)) == 4


def test_interactions_belong_to_the_family_of_default() -> None:
    inits = (*ROWS, *PLACEBOS)
    assert baseline_family(inits) == Family("baseline", 4, 1)
    for name in ROWS[1:]:
        assert family(name, "default", inits) == Family("baseline", 4, 1)
    assert family("lwi", "lwi + medcontext", inits) == Family("pairs", 6)
    several = [Treatment(init, regimen).name for init in ("default", "lwi", "mae") for regimen in ("plain", "a", "b")]
    assert family("mae", "default", several) == Family("baseline", 8 + 4, 4)


def test_a_placebo_under_a_regimen_is_judged_by_itself_beside_its_own_default() -> None:
    inits = (*ROWS, *PLACEBOS)
    assert family(PLACEBOS[1], "default + medcontext", inits) == Family("placebo", 1)
    assert family(PLACEBOS[0], "default", inits) == Family("placebo", 1)
    assert family(PLACEBOS[1], "default", inits) == Family("placebo", 4)
    assert family(*PLACEBOS, inits) == Family("placebo", 4)


def test_each_placebo_is_compared_with_default_under_its_own_regimen() -> None:
    y = 50 + scores(np.random.default_rng(1), 1, 6, 3, 12)[0]
    inits = (*ROWS, *PLACEBOS)
    found = {one.first: one for one in verdicts(scored(y, inits)).differences}
    assert {name: one.second for name, one in found.items()} == {
        **dict.fromkeys(ROWS[1:], "default"),
        PLACEBOS[0]: "default",
        PLACEBOS[1]: "default + medcontext",
    }
    assert found[PLACEBOS[1]].estimate.value == pytest.approx(float(y[5].mean() - y[1].mean()))
    kept = [0, 2, 3, 4, 5]
    alone = {one.first: one for one in verdicts(scored(y[kept], tuple(inits[k] for k in kept))).differences}
    assert alone[PLACEBOS[1]].verdict == "untestable"
    assert alone[PLACEBOS[1]].reason == "default + medcontext is not in this block"
