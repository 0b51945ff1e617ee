"""Runs of a plan that never were, with the costs and the notes that a plan makes of them."""

from __future__ import annotations

from typing import Any

from initbench.runs import costs
from initbench.runs.costs import Expected, Sample, StudyPlan
from initbench.runs.record import Environment, Head, Resolved
from initbench.stats.power import stated
from initbench.tables.plan import plan_sheets


def resolved(init: str = "default", **changes: Any) -> Resolved:
    """What a run of a plan resolves to; `changes` are of its keys."""
    own = {
        "init": init,
        "learned": init in ("mae", "lwi"),
        "protocol": "any",
        "backbone": "unetr",
        "variant": "default",
        "size": "tiny",
        "dataset": "lung",
        "data_digest": "d" * 64,
        "precision": "bf16",
        "budget": "short",
        "steps": 100,
        "seed": 0,
        "train_cases": [],
        "reported_cases": ["a", "b"],
        "classes": ["background", "nodule"],
        "split": "auto",
        "recipe_digest": "a" * 12,
    }
    return Resolved.model_validate(own | changes)


def expected(init: str = "default", *, steps: int = 100, pretext: int = 0, **changes: Any) -> Expected:
    """A new run of a plan, with as much of its record as a forecast reads.

    Args:
        init: its name.
        steps: of the training.
        pretext: steps of the init stage, before the training.
        changes: fields of `Expected`; `resolved` changes the record.
    """
    own = resolved(init, **{"steps": steps + pretext, **changes.pop("resolved", {})})
    head = Head(cell=init, resolved=own, environment=Environment(cpu="a", accelerator=None, threads=1))
    return Expected(init, "new", record=head, init_steps=pretext, train_steps=steps, **changes)


def sample(init: str = "default", train: float = 1.0, pretext: int = 0, seconds: float = 0.0, case: float = 5.0) -> Sample:
    """What one finished run took.

    Args:
        train: seconds of a training step.
        pretext: steps of the init stage.
        seconds: of the init stage.
        case: seconds of evaluating a case.
    """
    paces = {"train": train, "evaluate": case}
    if pretext:
        return Sample(costs.init_of(resolved(init)), paces | {"pretext": seconds / pretext})
    return Sample(costs.init_of(resolved(init)), paces, stepless=seconds)


def title(study: StudyPlan) -> str:
    """The title of a plan, which says how long it takes."""
    return plan_sheets(study, [])[0].title


def notes(study: StudyPlan, *args: Any) -> str:
    """The notes below a plan, as one text; `args` are what `plan_sheets` takes behind the study."""
    return "\n".join(plan_sheets(study, *(args or ([],)))[0].notes)


NOISE = stated(1.5, 3.0, 10.0)


def many(seeds: int, **own: Any) -> tuple[Expected, ...]:
    """Three inits, one of them learned, in a number of seeds."""
    return tuple(expected(init, resolved={"seed": seed, **own}) for seed in range(seeds) for init in ("default", "mae", "lwi"))
