"""Whether an initializer keeps what `initbench.protocols.Initializer` asks of it: one small check per promise.

It is called on fresh networks on the CPU: once, again with everything turned about that must not count, and with another seed.
Where the second call comes out otherwise, further calls find out why.
"""

from __future__ import annotations

from collections.abc import Callable

from initbench import seeding
from initbench.errors import DataError, InitbenchError, UsageError
from initbench.harness.context import DivergedError
from initbench.harness.process_state import MisbehavedError
from initbench.validation.checks import Check, run_check
from initbench.validation.inits.declaration import check_declared, check_unknown_parameter
from initbench.validation.inits.effects import check_budget, check_coverage, check_heads, check_others, check_signal
from initbench.validation.inits.kept import (
    check_buffers,
    check_device,
    check_finite,
    check_hooks,
    check_modes,
    check_modules,
    check_requires_grad,
    check_runs,
    check_shapes,
    check_ties,
)
from initbench.validation.inits.numbers import check_generators, check_order, check_same_bits, check_seed
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import trial

Checks = dict[str, Callable[[InitSubject], str]]

FIRST_OF_ALL: Checks = {
    "declared": check_declared,
    "unknown parameter": check_unknown_parameter,
    "runs": check_runs,
}
NETWORK_KEPT: Checks = {
    "modules": check_modules,
    "ties": check_ties,
    "shapes": check_shapes,
    "device": check_device,
    "finite": check_finite,
    "requires_grad": check_requires_grad,
}
THE_REST: Checks = {
    "modes": check_modes,
    "hooks": check_hooks,
    "buffers": check_buffers,
    "same bits": check_same_bits,
    "generators": check_generators,
    "order": check_order,
    "another seed": check_seed,
    "budget": check_budget,
    "coverage": check_coverage,
    "heads": check_heads,
    "norms and tables": check_others,
    "signal": check_signal,
}


class RefusedError(Exception):
    """The initializer says that it does not work on a network, which is no broken promise."""


def validate_init(subject: InitSubject) -> list[Check]:
    """Every check of an initializer on a network. Where a run would stop, only those before that.

    Raises:
        RefusedError: the initializer does not take this network.
        InitbenchError: what it needs is not there, whatever the network.
    """
    try:
        with seeding.deterministic(threads=1):  # as runs have it
            _call(subject)
            checks = _run(FIRST_OF_ALL, subject)
            if checks[-1].passed:
                kept = _run(NETWORK_KEPT, subject)
                checks += kept
                if all(check.passed for check in kept):
                    checks += _run(THE_REST, subject)
    finally:
        trial.cache_clear()  # trials hold networks
    return checks


def _call(subject: InitSubject) -> None:
    try:
        trial(subject)
    except (UsageError, DataError) as error:
        raise RefusedError(str(error)) from None
    except Exception as error:
        if isinstance(error, InitbenchError) and not isinstance(error, DivergedError | MisbehavedError):
            raise
        # Anything else is for the check of that call to say.


def _run(checks: Checks, subject: InitSubject) -> list[Check]:
    return [run_check(name, check, subject) for name, check in checks.items()]
