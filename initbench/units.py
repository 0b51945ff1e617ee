"""Durations and amounts of memory and disk, as people read them."""

from __future__ import annotations

_HOUR, _MINUTE = 3600, 60  # seconds


def duration(seconds: float, of: str = "") -> str:
    """Returns a duration, roughly: in seconds, minutes or hours, with a digit behind the point below 10 minutes or hours.

    Args:
        seconds: how long.
        of: what the time is of; with ``CPU`` the units are CPU-seconds, CPU-minutes and CPU-hours.
    """
    size, unit = _unit(seconds)
    return f"{_number(seconds, size)} {_named(unit, of)}"


def from_to(least: float, most: float, of: str = "") -> str:
    """Returns two durations, in the unit of the longer one where that says enough of the shorter one; one where they read alike.

    Args:
        least: seconds.
        most: seconds, as many or more.
        of: as for `duration`.
    """
    size, unit = _unit(most)
    first, last = _number(least, size), _number(most, size)
    if first == last:
        return duration(most, of)
    if least < size / 2:
        return f"{duration(least, of)} to {duration(most, of)}"
    return f"{first} to {last} {_named(unit, of)}"


def _unit(seconds: float) -> tuple[int, str]:
    """Returns the seconds of the unit in which a duration is written, and its name."""
    if seconds >= _HOUR:
        return _HOUR, "h"
    if seconds >= _MINUTE:
        return _MINUTE, "min"
    return 1, "s"


def _number(seconds: float, size: int) -> str:
    """Returns a duration in a unit of `size` seconds."""
    count = seconds / size
    digits = 1
    if size == 1 or count >= 9.95:  # which reads as 10.0
        digits = 0
    return f"{count:.{digits}f}"


def _named(unit: str, of: str) -> str:
    if of:
        return f"{of}-{unit}"
    return unit


def gib(size: float) -> str:
    """Returns bytes of memory in GiB."""
    return f"{size / 2**30:,.1f} GiB"


def disk_size(size: float) -> str:
    """Returns bytes on a disk in kB, MB or GB, of 1000 each as on the label of a disk."""
    for unit in ("kB", "MB"):
        size /= 1000
        if size < 1000:
            return f"{size:.0f} {unit}"
    digits = 0 if size >= 10_000 else 1
    return f"{size / 1000:.{digits}f} GB"
