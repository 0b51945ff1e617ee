"""Named seed streams, derived from (root seed, stream, key), and the determinism switches.

Every number comes from a counter: the state at step k is a function of (root, stream, k) and needs no history, so a resumed run
draws what the uninterrupted one drew, and a new stream shifts no other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from initbench.choices import Stream

if TYPE_CHECKING:
    import torch

STREAMS: tuple[Stream, ...] = get_args(Stream)


class Root(int):
    """A root seed of which some streams are fixed: they give what they give at seed 0, whatever the seed.

    Runs that share all streams but one differ by that one alone. An ``int``, as seeds are everywhere.
    """

    fixed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, seed: int, fixed: Iterable[str] = ()) -> Root:
        """Makes the root of a run."""
        root = cls(seed)
        root.fixed = frozenset(fixed)
        return root

    def __getnewargs__(self) -> tuple[int]:
        return (int(self),)


def derive(root: int, stream: str, *keys: str | int) -> int:
    """Returns a 128-bit seed for a stream; the text form makes ("a", 11) and ("a1", 1) different."""
    number = int(root)
    if isinstance(root, Root) and stream in root.fixed:
        number = 0
    parts = [f"initbench-1:{number}", stream]
    for key in keys:
        parts.append(f"{type(key).__name__}:{key}")
    text = "\0".join(parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")


def rng(root: int, stream: Stream, *keys: str | int) -> np.random.Generator:
    """Makes the counter-based numpy generator of a stream, on the CPU whatever the device."""
    key = _Key(derive(root, stream, *keys))
    return np.random.Generator(np.random.Philox(key))  # type: ignore[arg-type]  # the stubs know SeedSequence alone


class _Key(np.random.bit_generator.ISeedSequence):
    """A seed that Philox takes as its key, bit by bit.

    `Philox(key=...)` draws the same numbers. But first it asks the system for a seed that it does not use, which takes longer
    than all else here.
    """

    def __init__(self, number: int) -> None:
        self._number = number

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[Any]:
        """Returns the 128 bits in two words, as Philox asks for them."""
        return np.frombuffer(self._number.to_bytes(16, "little"), np.uint64)


def torch_seed(root: int, stream: Stream, *keys: str | int) -> int:
    """Returns the stream's seed in the 64 bits torch takes."""
    return derive(root, stream, *keys) & (2**63 - 1)


def torch_generator(root: int, stream: Stream, *keys: str | int) -> torch.Generator:
    """Makes the CPU torch generator of a stream."""
    import torch

    return torch.Generator().manual_seed(torch_seed(root, stream, *keys))


@contextlib.contextmanager
def forked(root: int, stream: Stream, *keys: str | int) -> Iterator[None]:
    """Seeds torch's global generator of the CPU from a stream, and puts it back afterwards. For code that takes no generator."""
    import torch

    state = torch.get_rng_state()
    # default_generator alone: torch.manual_seed would also reseed every accelerator.
    torch.default_generator.manual_seed(torch_seed(root, stream, *keys))
    try:
        yield
    finally:
        torch.set_rng_state(state)


def seed_step(root: int, stream: Stream, *keys: str | int) -> None:
    """Seeds the global generators (CPU and CUDA) for one training step: what dropout layers read."""
    import torch

    torch.manual_seed(torch_seed(root, stream, *keys))


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Inside the block torch leaves new memory as it is; under deterministic algorithms it would fill every new tensor."""
    from torch.utils import deterministic as switches

    before = switches.fill_uninitialized_memory  # type: ignore[attr-defined]
    switches.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        switches.fill_uninitialized_memory = before  # type: ignore[attr-defined]


@contextlib.contextmanager
def memory_of(device: torch.device) -> Iterator[None]:
    """Inside the block new memory is filled on the CPU, where deterministic algorithms ask for it, and not on CUDA.

    On CUDA a step would launch hundreds of kernels for that alone. The CPU needs it: a kernel of oneDNN reads memory that it
    never wrote (`initbench.training.precision.ShallowConvolutionsInFloat32`), and filled memory is at least the same each time.
    """
    if device.type != "cuda":
        yield
        return
    with unfilled():
        yield


@contextlib.contextmanager
def deterministic(threads: int) -> Iterator[None]:
    """Inside the block kernels are deterministic and CPU threads fixed in number; the former settings come back after it."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it deterministic cuBLAS refuses to run
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
        torch.get_num_threads(),
    )
    state = torch.get_rng_state()
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        torch.backends.cudnn.allow_tf32 = before[2]
        torch.backends.cuda.matmul.allow_tf32 = before[3]
        torch.set_num_threads(before[4])
        torch.set_rng_state(state)
