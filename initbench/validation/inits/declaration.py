"""What an initializer says of itself, and the parameters that it takes."""

from __future__ import annotations

import ast
import inspect
from typing import Any

from initbench import registry
from initbench.errors import UsageError
from initbench.protocols import InitializerInfo
from initbench.validation.checks import BrokenPromiseError
from initbench.validation.inits.subject import InitSubject
from initbench.validation.wording import no

_UNKNOWN = "no_such_parameter"


def check_declared(subject: InitSubject) -> str:
    """It says what it is, or is a plain function; parameters are literals, and files are parameters."""
    component = subject.component
    declared, takes = component.declared, component.takes
    if declared is not None and not isinstance(declared, InitializerInfo):
        raise BrokenPromiseError(f"`info` is {type(declared).__name__} and no InitializerInfo: use @initializer(...)")
    no([name for name, value in takes.items() if not _literal(value)], "the default cannot be written as a literal")
    no([name for name in component.info.files if name not in takes], "InitializerInfo.files names no parameter")
    no([name for name in component.info.later if name not in takes], "InitializerInfo.later names no parameter")
    no([name for name in component.info.permissions if name not in takes], "InitializerInfo.permissions names no parameter")
    kind = "learned" if subject.info.learned else "not learned"
    if declared is None:
        kind = f"a plain function, taken as {kind}: @initializer(...) says more"
    return f"{kind}; parameters: {component.options}"


def _literal(value: Any) -> bool:
    if value is registry.REQUIRED:
        return True
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (ValueError, SyntaxError):
        return False


def check_unknown_parameter(subject: InitSubject) -> str:
    """A parameter that it does not have is refused: a misspelt one would change nothing, in silence."""
    component = registry.find("initializer", subject.component.spec.with_param(_UNKNOWN, 0))
    try:
        component.check()
    except UsageError:
        return "refused"
    taken = [p.name for p in inspect.signature(component.target).parameters.values() if p.kind is p.VAR_KEYWORD]
    raise BrokenPromiseError(f"{_UNKNOWN}=0 is taken: name the parameters in place of **{taken[0]}")
