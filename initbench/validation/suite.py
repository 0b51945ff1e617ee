"""Whether a backbone keeps what `initbench.protocols.Backbone` asks of it: one small check per promise.

A check returns what it saw, or raises; it never stops the others. All of them run on the CPU, with deterministic kernels.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from initbench import seeding
from initbench.validation.construction import (
    check_construction,
    check_constructs,
    check_declared,
    check_state,
    check_unknown_variant,
    check_wrong_patch,
)
from initbench.validation.outputs import check_deep_supervision, check_output
from initbench.validation.structure import check_heads, check_levels, check_sites
from initbench.validation.subject import BrokenPromiseError, Check, Subject
from initbench.validation.training import check_bf16, check_determinism, check_gradients, check_memory, check_time, check_unused

WITHOUT_NETWORK: dict[str, Callable[[Subject], str]] = {
    "declared": check_declared,
    "wrong patch": check_wrong_patch,
    "unknown variant": check_unknown_variant,
}
WITH_NETWORK: dict[str, Callable[[Subject], str]] = {
    "output": check_output,
    "deep supervision": check_deep_supervision,
    "gradients": check_gradients,
    "unused": check_unused,
    "levels": check_levels,
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
    """Every check of a backbone. Where it cannot be constructed, only those that need no network."""
    with seeding.deterministic(threads=1):  # as runs have it; small networks gain nothing from more
        checks = [_run(name, check, subject) for name, check in WITHOUT_NETWORK.items()]
        constructs = _run("constructs", check_constructs, subject)
        checks.insert(1, constructs)
        if constructs.passed:
            checks += [_run(name, check, subject) for name, check in WITH_NETWORK.items()]
    return checks


def _run(name: str, check: Callable[[Subject], str], subject: Subject) -> Check:
    started = time.perf_counter()
    try:
        passed, detail = True, check(subject)
    except BrokenPromiseError as broken:
        passed, detail = False, str(broken)
    except Exception as error:  # whatever a plug-in raises is the failure of this check
        passed, detail = False, f"{type(error).__name__}: {error}"
    return Check(name, passed, " ".join(detail.split()), time.perf_counter() - started)
