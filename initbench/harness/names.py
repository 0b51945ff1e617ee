"""Names of a request checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from initbench import registry, spec
from initbench.catalog import Kind
from initbench.errors import UsageError


def items(values: str | Sequence[str]) -> list[str]:
    """A comma list, or several, as single component strings without repetition."""
    texts = [values] if isinstance(values, str) else list(values)
    return list(dict.fromkeys(item for text in texts for item in spec.split_list(text)))


def assign(texts: Sequence[str], assignments: Iterable[str]) -> tuple[list[str], list[str]]:
    """Puts ``init.parameter=value`` assignments into every initializer that has such a parameter.

    Returns:
        The initializers with their parameters, and the assignments that are not about initializers.

    Raises:
        UsageError: no initializer of the sweep has the parameter.
    """
    parsed = [spec.parse(text) for text in texts]
    takes = [registry.parameters(registry.get("initializer", item), skip=2) for item in parsed]
    rest = []
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        section, dot, name = key.strip().partition(".")
        if section != "init" or not dot or not equals:
            rest.append(assignment)
            continue
        if not any(name in parameters for parameters in takes):
            options = ", ".join(sorted({parameter for parameters in takes for parameter in parameters})) or "none"
            raise UsageError(f"--set {assignment}: no initializer of this sweep takes {name}; they take {options}")
        parsed = [
            item.with_param(name, spec.value(value.strip())) if name in parameters else item
            for item, parameters in zip(parsed, takes, strict=True)
        ]
    return [str(item) for item in parsed], rest


def check_names(kind: Kind, texts: Sequence[str]) -> None:
    """Refuses unusable names before anything heavy is imported.

    Raises:
        UsageError: says what is wrong, or names the nearest known ones.
    """
    for item in items(texts):
        parsed = spec.parse(item)
        if not parsed.is_file:
            registry.check_name(kind, parsed.name)
