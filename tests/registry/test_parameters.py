"""Values are compared with what an author wrote behind the colon; what that does not tell is left to the author's code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest

from initbench.parameters import misfit


def scheme(
    model: object,
    ctx: object,
    /,
    *,
    share: float = 0.5,
    count: int = 1,
    flag: bool = False,
    name: str = "",
    way: Literal["in", "out"] = "in",
    taps: tuple[int, ...] | None = None,
    pair: tuple[int, int] = (1, 2),
    several: list[int] | None = None,
    table: dict[str, float] | None = None,
    place: Path = Path(),
    anything: Any = None,
    bare: Any = 1,
) -> None: ...


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("share", 1),
        ("share", 0.25),
        ("count", 3),
        ("flag", True),
        ("name", "a"),
        ("way", "out"),
        ("taps", None),
        ("taps", (1, 2)),
        ("taps", [1, 2]),
        ("pair", (3, 4)),
        ("several", [1, 2]),
        ("several", None),
        ("table", {"a": 1.5}),
        ("place", "a/b"),
        ("place", 3),
        ("anything", "x"),
        ("bare", [1]),
        ("unknown", 1),
    ],
)
def test_what_fits_or_cannot_be_told(key: str, value: Any) -> None:
    assert misfit(scheme, key, value) == ""


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("share", "0.5", "it has to be a valid number"),
        ("share", True, "it has to be a valid number"),
        ("count", 1.5, "it has to be a valid integer"),
        ("flag", 1, "it has to be a valid boolean"),
        ("name", 1, "it has to be a valid string"),
        ("way", "both", "it has to be 'in' or 'out'"),
        ("taps", 5, "it has to be a valid tuple"),
        ("taps", ("a",), "it has to be a valid integer"),
        ("several", 5, "it has to be a valid"),
        ("table", {"a": "b"}, "it has to be a valid number"),
    ],
)
def test_what_does_not_fit(key: str, value: Any, why: str) -> None:
    assert why in misfit(scheme, key, value)


def without_annotations(model, ctx, /, share=0.5): ...  # type: ignore[no-untyped-def]


@dataclass
class Unhashable:
    factor: float = 1.0

    def __call__(self, model: object, ctx: object, /, *, share: float = 0.5) -> None: ...


@pytest.mark.parametrize("function", [without_annotations, partial(scheme, count=2), Unhashable()])
def test_functions_that_tell_nothing_take_everything(function: Callable[..., Any]) -> None:
    assert misfit(function, "share", "a") == ""
