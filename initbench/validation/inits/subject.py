"""What is checked: an initializer with its parameters, on one network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from initbench import registry
from initbench.harness import compose
from initbench.protocols import InitializerInfo
from initbench.registry import Component
from initbench.spec import Spec
from initbench.validation.backbones.subject import Subject
from initbench.validation.material import PROBE, network

BACKBONES = (PROBE, "unetr", "unetrpp")
"""Networks of the default: all kinds of parameters in little space, then the two of the literature, which are quick."""
STEPS = 4


@dataclass(frozen=True, eq=False)
class InitSubject:
    """The initializer as it is checked.

    Attributes:
        component: the initializer, and the initializers inside it.
        network: the network that it initializes.
        steps: budget of a learned initializer, in optimizer steps.
    """

    component: Component[InitializerInfo]
    network: Subject
    steps: int = STEPS

    @property
    def info(self) -> InitializerInfo:
        """What the initializer declares, joined with what the initializers inside it declare."""
        return compose.info(self.component)


def init_subjects(spec: Spec, backbones: Sequence[str] = BACKBONES, *, steps: int = STEPS) -> tuple[InitSubject, ...]:
    """Returns an initializer on each of some networks at tiny size.

    Args:
        spec: the initializer.
        backbones: component strings of the networks; ``probe`` is a network made for these checks.
        steps: budget of a learned initializer, in optimizer steps.

    Raises:
        UsageError: unknown name, parameter or backbone, or a parameter that it needs is not given.
    """
    component = registry.find("initializer", spec)
    component.check()
    return tuple(InitSubject(component, network(name), steps) for name in backbones)
