"""Checks whether an initializer keeps what `initbench.protocols.Initializer` asks of it: one small check for each promise.

The checks call it on fresh networks on the CPU: once, then with every circumstance changed that should make no difference, then
with another seed. Where the second call gives other values, further calls find out why.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from initbench import registry, seeding
from initbench.errors import UsageError
from initbench.harness.context import DivergedError
from initbench.harness.process_state import MisbehavedError
from initbench.protocols import InitializerInfo
from initbench.validation.checks import BrokenPromiseError, Check, first_call, run_checks
from initbench.validation.inits.kept import (
    check_buffers,
    check_device,
    check_finite,
    check_hooks,
    check_modes,
    check_modules,
    check_requires_grad,
    check_shapes,
    check_ties,
)
from initbench.validation.inits.subject import InitSubject
from initbench.validation.inits.trials import trial
from initbench.validation.inits.values import (
    check_budget,
    check_coverage,
    check_generators,
    check_heads,
    check_order,
    check_others,
    check_same_bits,
    check_seed,
    check_signal,
)
from initbench.validation.wording import no

UNKNOWN_PARAMETER = "no_such_parameter"


def check_declared(subject: InitSubject) -> str:
    """Checks that an initializer says what it is, that its defaults are literals, and that its files are parameters."""
    component = subject.component
    declared, takes = component.declared, component.takes
    if declared is not None and not isinstance(declared, InitializerInfo):
        raise BrokenPromiseError(f"`info` is {type(declared).__name__} and no InitializerInfo: use @initializer(...)")
    no([name for name, value in takes.items() if not _literal(value)], "the default cannot be written as a literal")
    for field in ("files", "later", "permissions"):
        no(set(getattr(component.info, field)) - takes.keys(), f"InitializerInfo.{field} names no parameter")
    kind = "not learned"
    if subject.info.learned:
        kind = "learned"
    if declared is None:
        kind = f"a plain function, taken as {kind}: @initializer(...) says more"
    return f"{kind}; parameters: {component.options}"


def _literal(value: Any) -> bool:
    """Returns whether a default can be written as a literal, and read back."""
    if value is registry.REQUIRED:
        return True
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def check_unknown_parameter(subject: InitSubject) -> str:
    """Checks that an initializer refuses a parameter that it does not have: a misspelt one would change nothing, in silence."""
    component = registry.find("initializer", subject.component.spec.with_param(UNKNOWN_PARAMETER, 0))
    try:
        component.check()
    except UsageError:
        return "refused"
    taken = ""
    for parameter in inspect.signature(component.target).parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            taken = parameter.name
    raise BrokenPromiseError(f"{UNKNOWN_PARAMETER}=0 is taken: name the parameters in place of **{taken}")


def check_runs(subject: InitSubject) -> str:
    """Checks that an initializer initializes the network without an error."""
    reported = trial(subject).ctx.reported.get("summary")
    if not reported:
        return "without an error"
    return f"it says: {reported}"


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


def validate_init(subject: InitSubject) -> list[Check]:
    """Makes every check of an initializer on a network, up to the point at which a run would stop.

    Raises:
        RefusedError: the initializer does not take this network.
        InitbenchError: something that it needs on any network is not there.
    """
    try:
        with seeding.deterministic(threads=1):  # as runs have it
            with first_call(DivergedError, MisbehavedError):
                trial(subject)
            checks = run_checks(FIRST_OF_ALL, subject)
            if not checks[-1].passed:
                return checks
            kept = run_checks(NETWORK_KEPT, subject)
            checks += kept
            if all(check.passed for check in kept):
                checks += run_checks(THE_REST, subject)
            return checks
    finally:
        trial.cache_clear()  # trials hold networks
