"""Makes the next batch while the device works on this one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Made = TypeVar("Made")


class Ahead(Generic[Made]):
    """Batches by step. When one is taken, a thread begins with the next.

    What is made has to be a function of the step, so that nobody can tell who made it.
    """

    def __init__(self, make: Callable[[int, int], Made]) -> None:
        """Takes the function.

        Args:
            make: gives the batch of a step; the second number is the thickness of slabs, which some batches depend on.
        """
        self._make = make
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._next: tuple[tuple[int, int], Future[Made]] | None = None

    def take(self, step: int, slab: int = 1) -> Made:
        """Returns the batch of a step."""
        batch = self._begun(step, slab)
        if batch is None:
            batch = self._make(step, slab)
        self._next = (step + 1, slab), self._thread.submit(self._make, step + 1, slab)
        return batch

    def _begun(self, step: int, slab: int) -> Made | None:
        """Waits for the thread and returns what it made; None where it made the batch of another step."""
        if self._next is None:
            return None
        asked, future = self._next
        batch = future.result()
        if asked != (step, slab):
            return None
        return batch
