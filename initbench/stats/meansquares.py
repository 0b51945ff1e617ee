"""Mean squares of balanced layouts, over the last axes; numpy loops over the axes before them.

Source: Searle, Casella & McCulloch, Variance Components (1992), chapter 4.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from initbench.stats.design import Array


@dataclass(frozen=True)
class Square:
    """A mean square and its degrees of freedom.

    Attributes:
        value: the mean square [...]; NaN without degrees of freedom.
        df: its degrees of freedom.
        by_case: the sum of squares of each case [..., case]; None where the effect has no case.
        over_inits: whether it is a mean over inits, whose own values may differ: the effect of seeds within inits.
    """

    value: Array
    df: int
    by_case: Array | None = None
    over_inits: bool = False

    @property
    def sum(self) -> Array:
        """The sum of squares [...]; 0 without degrees of freedom."""
        if self.df == 0:
            return np.zeros_like(self.value)
        return self.value * self.df


def two_way(d: Array) -> tuple[Square, Square, Square]:
    """Returns the mean squares of seeds, of cases and of the residual of `d` [..., seed, case], which has one value per cell."""
    S, C = d.shape[-2:]
    grand = d.mean((-2, -1), keepdims=True)
    seeds = d.mean(-1, keepdims=True) - grand
    cases = d.mean(-2, keepdims=True) - grand
    rest = d - grand - seeds - cases
    return (
        _square(C * _total(seeds, 2), S - 1),
        _by_case(S * _per_case(cases, 2), C - 1),
        _by_case(_per_case(rest, 2), (S - 1) * (C - 1)),
    )


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of y [..., init, seed, case] with crossed seeds, in squared units of y."""

    init: Square
    seed: Square
    case: Square
    init_seed: Square
    init_case: Square
    seed_case: Square
    residual: Square

    @property
    def seed_in_init(self) -> Square:
        """The mean square of seeds within inits, for nested seeds: C Σ (m_is − ȳ_i)² / [I (S − 1)]."""
        return replace(_pooled(self.seed, self.init_seed), over_inits=True)

    @property
    def nested_residual(self) -> Square:
        """The mean square of seed × case within inits, with I (S − 1) (C − 1) degrees of freedom."""
        return _pooled(self.seed_case, self.residual)


def mean_squares(y: Array) -> MeanSquares:
    """Returns the mean squares of balanced scores `y` [..., init, seed, case]."""
    I, S, C = y.shape[-3:]  # noqa: E741 - the letters of the literature
    grand = y.mean((-3, -2, -1), keepdims=True)
    t = y.mean((-2, -1), keepdims=True) - grand
    r = y.mean((-3, -1), keepdims=True) - grand
    c = y.mean((-3, -2), keepdims=True) - grand
    tr = y.mean(-1, keepdims=True) - grand - t - r
    tc = y.mean(-2, keepdims=True) - grand - t - c
    rc = y.mean(-3, keepdims=True) - grand - r - c
    rest = y - grand - t - r - c - tr - tc - rc
    return MeanSquares(
        init=_square(S * C * _total(t, 3), I - 1),
        seed=_square(I * C * _total(r, 3), S - 1),
        case=_by_case(I * S * _per_case(c, 3), C - 1),
        init_seed=replace(_square(C * _total(tr, 3), (I - 1) * (S - 1)), over_inits=True),
        init_case=_by_case(S * _per_case(tc, 3), (I - 1) * (C - 1)),
        seed_case=_by_case(I * _per_case(rc, 3), (S - 1) * (C - 1)),
        residual=_by_case(_per_case(rest, 3), (I - 1) * (S - 1) * (C - 1)),
    )


def _total(values: Array, axes: int) -> Array:
    """Returns the sum of squares over a number of last axes."""
    return np.asarray((values**2).sum(tuple(range(-axes, 0))), np.float64)


def _per_case(values: Array, axes: int) -> Array:
    """Returns the sum of squares of each case: over a number of last axes except the very last one, of the cases."""
    return np.asarray((values**2).sum(tuple(range(-axes, -1))), np.float64)


def _by_case(sums: Array, df: int) -> Square:
    """Returns the mean square of an effect with cases, from the sum of squares of each case [..., case]."""
    return Square(_square(sums.sum(-1), df).value, df, sums)


def _square(total: Array, df: int) -> Square:
    """Returns the mean square of a sum of squares [...]; NaN without degrees of freedom."""
    if df == 0:
        return Square(np.full_like(total, np.nan), df)
    return Square(total / df, df)


def _pooled(first: Square, second: Square) -> Square:
    """Returns the mean square of two effects together."""
    whole = _square(np.asarray(first.sum + second.sum, np.float64), first.df + second.df)
    if first.by_case is None or second.by_case is None:
        return whole
    return Square(whole.value, whole.df, first.by_case + second.by_case)
