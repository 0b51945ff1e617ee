"""Checks whether a backbone keeps what `initbench.protocols.Backbone` asks of it: one small check for each promise.

A check returns what it saw, or raises; it never stops the others. All of them run on the CPU, with deterministic kernels.
"""

from __future__ import annotations

from collections.abc import Callable

from initbench import seeding
from initbench.validation.backbones.construction import (
    check_construction,
    check_constructs,
    check_declared,
    check_state,
    check_unknown_variant,
    check_wrong_patch,
)
from initbench.validation.backbones.outputs import check_deep_supervision, check_dimension, check_output
from initbench.validation.backbones.structure import check_heads, check_levels, check_sites, check_tokens
from initbench.validation.backbones.subject import Subject
from initbench.validation.backbones.training import (
    check_bf16,
    check_determinism,
    check_gradients,
    check_memory,
    check_time,
    check_unused,
)
from initbench.validation.checks import Check, run_check, run_checks

WITHOUT_NETWORK: dict[str, Callable[[Subject], str]] = {
    "declared": check_declared,
    "wrong patch": check_wrong_patch,
    "unknown variant": check_unknown_variant,
}
WITH_NETWORK: dict[str, Callable[[Subject], str]] = {
    "output": check_output,
    "dimension": check_dimension,
    "deep supervision": check_deep_supervision,
    "gradients": check_gradients,
    "unused": check_unused,
    "levels": check_levels,
    "tokens": check_tokens,
    "heads": check_heads,
    "sites": check_sites,
    "construction": check_construction,
    "state": check_state,
    "determinism": check_determinism,
    "bf16": check_bf16,
    "memory": check_memory,
    "time": check_time,
}


def validate(subject: Subject) -> list[Check]:
    """Makes every check of a backbone, or only those without a network where it cannot be constructed."""
    with seeding.deterministic(threads=1):  # as runs have it; small networks gain nothing from more
        checks = run_checks(WITHOUT_NETWORK, subject)
        constructs = run_check("constructs", check_constructs, subject)
        checks.insert(1, constructs)
        if constructs.passed:
            checks += run_checks(WITH_NETWORK, subject)
    return checks
