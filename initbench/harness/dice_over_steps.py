"""Dice over the steps: some reported cases are predicted while a network trains, and nothing is decided by what is found.

A second network does it, constructed as the trained one was, with a copy of its weights. So a network that keeps something
between two passes (statistics of a BatchNorm, a mask of the last window, a count) goes on as if nobody had looked.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import nn

from initbench import digest, interrupt
from initbench.errors import InterruptedRunError, of_the_system
from initbench.evaluation.evaluate import Evaluator
from initbench.evaluation.inference import forward_passes
from initbench.evaluation.metrics import count
from initbench.harness.cell import Cell, steps_of
from initbench.harness.process_state import kept
from initbench.preprocessing.prepare import Prepared
from initbench.protocols import PLAIN_UNITS
from initbench.recipes.settings import Inference
from initbench.runs.record import ValidationCost

ONE_IN = 20  # forward passes of training for one of validation: 5 %
MOST_POINTS = 20  # a curve of more tells nothing more
_POINTS_PER_CASE = 4  # at the most: a long curve of a single case says little of the others
_FEWEST_POINTS = 2  # one point is no curve


@dataclass(frozen=True)
class Schedule:
    """Where a network is looked at.

    Attributes:
        points: supervised steps that were done then, the last step among them.
        cases: reported cases that are predicted at each point.
        passes: forward passes of one patch that a point takes.
    """

    points: tuple[int, ...]
    cases: tuple[str, ...]
    passes: int


@dataclass(frozen=True)
class Look:
    """Counts of a class of a case after some steps, on the preprocessed grid.

    Attributes:
        step: supervised steps that were done.
        seconds: that the supervised stage took until then.
    """

    step: int
    seconds: float
    case: str
    class_number: int
    class_name: str
    tp: int
    fp: int
    fn: int


def schedule(passes: Mapping[str, int], steps: int, most: int) -> Schedule | None:
    """Chooses as many points as there is room for, and then as many cases.

    Args:
        passes: forward passes that the prediction of each case takes; the first cases are taken first.
        steps: of the supervised stage.
        most: forward passes of all points together.

    Returns:
        The schedule; None where not even two points on one case have room.
    """
    for points in range(min(MOST_POINTS, steps), _FEWEST_POINTS - 1, -1):
        cases, taken = _first_cases(passes, most // points)
        wanted = min(math.ceil(points / _POINTS_PER_CASE), len(passes))
        if cases and len(cases) >= wanted:
            return Schedule(_spread(points, steps), cases, taken)
    return None


def _spread(points: int, steps: int) -> tuple[int, ...]:
    """Spreads points evenly over the steps, the last one at their end."""
    return tuple(steps * number // points for number in range(1, points + 1))


def _first_cases(passes: Mapping[str, int], most: int) -> tuple[tuple[str, ...], int]:
    """Returns the first cases that together take `most` forward passes or fewer, and how many they take."""
    cases, taken = [], 0
    for case_id, needed in passes.items():
        if taken + needed > most:
            break
        cases.append(case_id)
        taken += needed
    return tuple(cases), taken


def windows_of(cell: Cell) -> Inference:
    """Returns how cases are predicted while a run trains: by the recipe, without mirroring, which is eight times the work."""
    return cell.recipe.inference.model_copy(update={"mirror": False})


def schedule_of(cell: Cell) -> Schedule | None:
    """Returns the schedule of a run; None where its budget has no room for one.

    It follows from counts alone, so it is the same on every machine. All inits of a block have the same cases and as many points,
    or their curves could not be compared. How many is decided by the shortest training, which is what a learned init leaves under
    ``equal-total``.
    """
    prepared, recipe, patch = cell.prepared, cell.recipe, cell.recipe.patch
    # By a digest of their names: the order of the files may go with the hospital or the size of an organ.
    order = sorted(prepared.split.test, key=digest.of_json)
    windows = windows_of(cell)
    passes = {}
    for case_id in order:
        passes[case_id] = forward_passes(prepared.case(case_id).placement.shape, patch.size, windows)
    shortest = steps_of(recipe, cell.request.budget, "equal-total", learned=True).train
    chosen = schedule(passes, shortest, shortest * PLAIN_UNITS * patch.batch // ONE_IN)
    if chosen is None:
        return None
    own = cell.train_steps * cell.units * patch.batch // ONE_IN  # less than that alone where a step of a regimen costs less
    points = min(len(chosen.points), own // chosen.passes, cell.train_steps)
    if points < _FEWEST_POINTS:
        return None
    return replace(chosen, points=_spread(points, cell.train_steps))


class DiceOverSteps:
    """Predicts cases while a network trains. It is the `initbench.training.loop.Validation` of a run.

    Attributes:
        looks: what was found.
    """

    def __init__(
        self,
        chosen: Schedule,
        prepared: Prepared,
        model: nn.Module,
        construct: Callable[[], nn.Module],
        evaluator: Callable[[nn.Module], Evaluator],
        note: Callable[[str], None],
    ) -> None:
        """Keeps what looks need.

        Args:
            chosen: where the network is looked at.
            prepared: holds the cases.
            model: the network that trains.
            construct: makes another network of its kind.
            evaluator: applies a network, which is on the device.
            note: told, for people, why there is no look.
        """
        self._chosen = chosen
        self._prepared = prepared
        self._model = model
        self._construct = construct
        self._evaluator = evaluator
        self._note = note
        self._twin: nn.Module | None = None
        self._is_over = False
        self._seconds = 0.0
        self.looks: list[Look] = []

    @classmethod
    def of(
        cls,
        cell: Cell,
        model: nn.Module,
        construct: Callable[[], nn.Module],
        evaluator: Callable[[nn.Module], Evaluator],
        note: Callable[[str], None],
    ) -> DiceOverSteps | None:
        """Returns the validation of a run; None where its budget has no room for one.

        Args:
            cell: the run.
            model: the network that trains.
            construct: makes another network of its kind.
            evaluator: applies a network.
            note: told why there is no look.
        """
        chosen = schedule_of(cell)
        if chosen is None:
            return None
        return cls(chosen, cell.prepared, model, construct, evaluator, note)

    def is_due(self, step: int) -> bool:
        """Returns whether the network is to be looked at after `step` steps, and was not yet."""
        return not self._is_over and step in self._chosen.points and step not in self._done()

    def measure(self, step: int, seconds: float) -> None:
        """Predicts the cases and keeps the counts. A look that fails costs the other looks, and not the run.

        Args:
            step: steps that were done.
            seconds: that the stage took until then.

        Raises:
            InterruptedRunError: somebody asked to stop; nothing of this look is kept.
        """
        begun = time.perf_counter()
        device = next(self._model.parameters()).device
        try:
            with kept(), _cuda_generator_kept(device):
                found = self._look(step, seconds, device)
        except InterruptedRunError:
            raise
        except Exception as error:  # the network may be code of others, and the memory may not suffice for a whole volume
            self._is_over, self._twin = True, None
            reason = of_the_system(error) or f"{type(error).__name__}: {error}"
            self._note(f"no validation from step {step} on: {reason}")
            return
        self.looks += found
        self._seconds += time.perf_counter() - begun

    def _look(self, step: int, seconds: float, device: torch.device) -> list[Look]:
        twin = self._twin = self._twin or self._construct()
        twin.to(device).load_state_dict(self._model.state_dict())
        evaluator = self._evaluator(twin)
        prepared = self._prepared
        found = []
        for case_id in self._chosen.cases:
            if interrupt.asked():
                raise InterruptedRunError("stopped during validation")
            case = prepared.case(case_id)
            labels = evaluator.probabilities(case).argmax(0).to(torch.uint8).cpu().numpy()
            counts = count(case.label, labels, len(prepared.classes), tuple(prepared.regions.values()))
            for place, (name, counted) in enumerate(zip(prepared.reported[1:], counts, strict=True)):
                found.append(Look(step, seconds, case_id, prepared.first + place, name, counted.tp, counted.fp, counted.fn))
        twin.to("cpu")  # training needs the memory of the device
        return found

    def _done(self) -> set[int]:
        return {look.step for look in self.looks}

    def forget_after(self, step: int) -> None:
        """Drops looks at a network that had diverged: that is noticed some steps later.

        Args:
            step: the first whose loss was not finite.
        """
        self.looks = [look for look in self.looks if look.step <= step]

    def cost(self) -> ValidationCost:
        """Returns what validation took so far; what it took before the run was stopped is counted in."""
        points = len(self._done())
        cases = 0
        if points:
            cases = len(self._chosen.cases)
        return ValidationCost(points=points, cases=cases, passes=points * self._chosen.passes, seconds=self._seconds)

    def state(self) -> dict[str, Any]:
        """Returns what was found so far, as plain values for a checkpoint."""
        return {"looks": [list(astuple(look)) for look in self.looks], "seconds": self._seconds}

    def load_state(self, state: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.looks = [Look(*values) for values in state["looks"]]
        self._seconds = state["seconds"]


def _cuda_generator_kept(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Inside the block the generator of a CUDA device may be used; afterwards it is as it was. `kept` sees to the others."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    return torch.random.fork_rng(devices=[device])
