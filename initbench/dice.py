"""Dice from voxel counts, for one class and for whole tables: counts become a score here alone.

Importing this module costs nothing, as the command line names the policies; numpy is loaded by the function that needs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from initbench.choices import DicePolicy, TablePolicy
from initbench.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Number = TypeVar("Number", float, "NDArray[np.float64]")


@dataclass(frozen=True)
class Rule:
    """The score of a class in a case whose reference lacks it, a fraction; NaN is no score.

    Attributes:
        predicted: the score where the prediction has the class.
        neither: the score where the prediction lacks it, too.
        meaning: both scores in words.
        source: who scores so.
    """

    predicted: float
    neither: float
    meaning: str
    source: str


POLICIES: Mapping[DicePolicy, Rule] = MappingProxyType(
    {
        "reference-mask": Rule(math.nan, math.nan, "nothing", "the default: the prediction cannot change which classes count"),
        "monai": Rule(math.nan, math.nan, "nothing", "DiceMetric as MONAI ships it"),
        "nnunet": Rule(0.0, math.nan, "0 if predicted, else nothing", "nnU-Net"),
        "empty-is-one": Rule(0.0, 1.0, "0 if predicted, else 1", "Metrics Reloaded, DiceMetric(ignore_empty=False)"),
        "worst": Rule(0.0, 0.0, "always 0", "the lowest score that any rule could give"),
    }
)
# transunet rewards a mistake: an organ that is not there scores 1 where it is predicted, and 0 where it is rightly left out.
TABLE_POLICIES: Mapping[TablePolicy, Rule] = MappingProxyType(
    dict(POLICIES) | {"transunet": Rule(1.0, 0.0, "1 if predicted, else 0", "TransUNet, Swin-Unet and MISSFormer")}
)


TABLES_ALONE: Mapping[str, str] = MappingProxyType(
    {
        "transunet": "transunet gives 1 to an organ that is predicted where there is none, and 0 where it is rightly left out, "
        "so nothing is judged by it; initbench reproduce takes it for published tables that were scored so"
    }
)
"""Why a policy is for published tables alone."""


def check_policy(policy: str) -> None:
    """Checks that results may be judged by a policy.

    Raises:
        UsageError: it is there for published tables alone.
    """
    if policy in TABLES_ALONE:
        raise UsageError(f"--dice-policy {policy}: {TABLES_ALONE[policy]}")


def policies_in_words() -> str:
    """Returns what each policy scores, for the help of an option; policies that score alike are named together."""
    names: dict[str, list[str]] = {}
    for policy, rule in POLICIES.items():
        names.setdefault(rule.meaning, []).append(policy)
    found = []
    for meaning, alike in names.items():
        found.append(f"{meaning} ({', '.join(alike)})")
    return "; ".join(found)


def _ratio(tp: Number, fp: Number, fn: Number) -> Number:
    """Returns 2 TP / (2 TP + FP + FN), from voxels of a class that the reference or the prediction holds."""
    return 2 * tp / (2 * tp + fp + fn)


def dice_of_counts(tp: ArrayLike, fp: ArrayLike, fn: ArrayLike, policy: TablePolicy = "reference-mask") -> NDArray[np.float64]:
    """Returns Dice of many classes and cases at once, as fractions; NaN where the policy gives no score.

    Args:
        tp: voxels in reference and prediction; like `fp` and `fn` of any one shape, which the result has.
        fp: voxels in the prediction alone.
        fn: voxels in the reference alone.
        policy: the rule for classes that the reference lacks.
    """
    import numpy as np

    both = np.asarray(tp, np.float64)
    more = np.asarray(fp, np.float64)
    less = np.asarray(fn, np.float64)
    rule = TABLE_POLICIES[policy]
    scores = np.where(more > 0, rule.predicted, rule.neither)
    held = both + less > 0
    scores[held] = _ratio(both[held], more[held], less[held])
    return scores


@dataclass(frozen=True)
class Counts:
    """Voxels of one class in one case on the native grid."""

    tp: int
    fp: int
    fn: int

    @property
    def dice(self) -> float:
        """Dice under the policy ``reference-mask``, a fraction: which classes are scored must not depend on the prediction."""
        if self.tp + self.fn == 0:
            return POLICIES["reference-mask"].neither
        return _ratio(self.tp, self.fp, self.fn)


def case_dice(counts: list[Counts]) -> float:
    """Returns the mean Dice over the scored classes of a case, a fraction; NaN where the reference holds none."""
    return _mean_of_scores([count.dice for count in counts])


def run_dice(per_case: list[list[Counts]]) -> float:
    """Returns the mean Dice over classes, then over the cases that have a score, a fraction."""
    return _mean_of_scores([case_dice(counts) for counts in per_case])


def _mean_of_scores(values: Sequence[float]) -> float:
    """Returns the mean of the values that are no NaN; NaN without any."""
    scores = []
    for value in values:
        if not math.isnan(value):
            scores.append(value)
    if not scores:
        return math.nan
    # Rounded once, so that the order of cases changes no bit of a record.
    return math.fsum(scores) / len(scores)
