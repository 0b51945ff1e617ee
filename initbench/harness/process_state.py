"""Settings of the process that code of others may change, put back after it, so that they reach no other code.

Some of them decide numbers of the run itself, or where its result goes: whoever changes those has failed. The rest is put back
and said.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from initbench.errors import InitbenchError


@dataclass(frozen=True)
class _Setting:
    """A setting: how it is read, and how it is put back. `decides`: the run itself depends on it."""

    name: str
    read: Callable[[], Any]
    put: Callable[[Any], object]
    decides: bool = True
    shown: bool = True  # whether its values tell a reader anything


def _allow_tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def _put_tf32(values: tuple[bool, bool]) -> None:
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = values


def _put_benchmark(value: bool) -> None:
    torch.backends.cudnn.benchmark = value


def _put_device(device: torch.device) -> None:
    if device.type == "cpu":
        torch.set_default_device(None)
    else:
        torch.set_default_device(device)


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _put_autocast(values: tuple[bool, bool]) -> None:
    torch.set_autocast_enabled("cpu", values[0])
    torch.set_autocast_enabled("cuda", values[1])


_HOOKS = [name for name in vars(torch.nn.modules.module) if name.startswith("_global_") and name.endswith("_hooks")]


def _global_hooks() -> dict[str, dict[int, Any]]:
    return {name: dict(getattr(torch.nn.modules.module, name)) for name in _HOOKS}


def _put_global_hooks(hooks: dict[str, dict[int, Any]]) -> None:
    for name, before in hooks.items():
        table = getattr(torch.nn.modules.module, name)
        table.clear()
        table.update(before)


def _put_environment(before: dict[str, str]) -> None:
    for name in set(os.environ) - set(before):
        del os.environ[name]
    for name, value in before.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _put_filters(before: list[Any]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]  # as `catch_warnings` does: else cached decisions stay


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, tuple(np.asarray(keys).tolist()), *rest)


def _torch_state() -> bytes:
    return torch.get_rng_state().numpy().tobytes()


def _put_torch_state(state: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD)


def _handlers() -> dict[signal.Signals, Any]:
    return {number: signal.getsignal(number) for number in _SIGNALS}


def _put_handlers(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        if signal.getsignal(number) != handler and handler is not None:
            signal.signal(number, handler)


_SETTINGS = (
    _Setting("gradients enabled", torch.is_grad_enabled, torch.set_grad_enabled),
    _Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    _Setting("default device", torch.get_default_device, _put_device),
    _Setting("deterministic algorithms", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    _Setting("threads", torch.get_num_threads, torch.set_num_threads),
    _Setting("cuDNN benchmark", lambda: torch.backends.cudnn.benchmark, _put_benchmark),
    _Setting("TF32", _allow_tf32, _put_tf32),
    _Setting("autocast", _autocast, _put_autocast),
    _Setting("hooks of all modules", _global_hooks, _put_global_hooks, shown=False),
    _Setting("working folder", os.getcwd, os.chdir),
    _Setting("environment variables", lambda: dict(os.environ), _put_environment, decides=False, shown=False),
    _Setting("signal handlers", _handlers, _put_handlers, decides=False, shown=False),
    _Setting("warning filters", lambda: list(warnings.filters), _put_filters, decides=False, shown=False),
    _Setting("torch's generator", _torch_state, _put_torch_state, decides=False, shown=False),
    _Setting("numpy's generator", _numpy_state, np.random.set_state, decides=False, shown=False),
    _Setting("Python's generator", random.getstate, random.setstate, decides=False, shown=False),
)


@dataclass
class Left:
    """What code of others left changed in the process; all of it was put back.

    Attributes:
        deciding: settings that decide numbers or places of the run itself.
        other: those that would have reached other code alone.
    """

    deciding: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)


@contextlib.contextmanager
def kept() -> Iterator[Left]:
    """Puts the settings of the process back after the block, and notes in the `Left` that it yields which of them had changed."""
    before = [(setting, setting.read()) for setting in _SETTINGS]
    left = Left()
    try:
        yield left
    finally:
        for setting, value in before:
            now = _read(setting)
            if now != value:
                setting.put(value)
                said = setting.name
                if setting.shown:
                    said += f" ({value} to {now})"
                if setting.decides:
                    left.deciding.append(said)
                else:
                    left.other.append(said)


def _read(setting: _Setting) -> Any:
    try:
        return setting.read()
    except OSError:  # a working folder that was removed
        return None


class MisbehavedError(InitbenchError):
    """Code of others did to the process what it may not; the message says who did what."""


@contextlib.contextmanager
def contained(who: str, note: Callable[[str], object]) -> Iterator[None]:
    """Inside the block runs code of others, which may raise errors and leaves the process as it was.

    Args:
        who: what messages call that code.
        note: told what was changed and put back, where no number of the run depends on it.

    Raises:
        MisbehavedError: it wants to end the process, or changed a setting on which the run depends.
    """
    with kept() as left:
        try:
            yield
        except (Exception, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise MisbehavedError(
                f"{who} raised {type(error).__name__}({error}), which would end the whole study: raise an Exception to say what "
                "is wrong"
            ) from error
    if left.deciding:
        raise MisbehavedError(
            f"{who} changed settings of the whole process: {', '.join(left.deciding)}. They were put back; leave them alone"
        )
    if left.other:
        note(f"{who} changed {', '.join(left.other)} of the process; put back")
