"""Durations and amounts of memory and disk, as people read them."""

from __future__ import annotations


def duration(seconds: float, of: str = "") -> str:
    """Returns a duration, roughly: in seconds, minutes or hours, with a digit behind the point below 10 minutes or hours.

    Args:
        seconds: how long.
        of: what the time is of; with ``CPU`` the units are CPU-seconds, CPU-minutes and CPU-hours.
    """
    count, unit = float(round(seconds)), "s"
    if seconds >= 3600:
        count, unit = seconds / 3600, "h"
    elif seconds >= 60:
        count, unit = seconds / 60, "min"
    digits = 0 if unit == "s" or count >= 10 else 1
    if of:
        unit = f"{of}-{unit}"
    return f"{count:.{digits}f} {unit}"


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
