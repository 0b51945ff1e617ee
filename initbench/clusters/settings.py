"""What a site and a user say of jobs of Slurm: a file in the user's configuration, and options over it.

The file is `site.toml`, and its table ``[slurm]`` has the names of `SlurmSettings`.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from initbench.errors import UsageError, did_you_mean

ENVIRONMENT = "INITBENCH_SITE"
_TABLE = "slurm"
_MOST_RUNS = 1_000_000
_UNITS = {"m": 60, "h": 3600, "d": 86400}
_WITH_UNIT = re.compile(r"([0-9]{1,6})([mhd])")
_CLOCK = re.compile(r"(?:(?P<days>[0-9]{1,3})-)?(?P<clock>[0-9]{1,5}(?::[0-9]{1,2}){0,2})")
# Seconds of each part of a clock: Slurm reads 90 and 90:00 as minutes, 1:30:00 and 1-12 as hours.
_PARTS = {1: (60,), 2: (60, 1), 3: (3600, 60, 1)}
_PARTS_AFTER_DAYS = {1: (3600,), 2: (3600, 60), 3: (3600, 60, 1)}


@dataclass(frozen=True)
class SlurmSettings:
    """What jobs of Slurm ask for, and what they do before they begin. Text goes to Slurm as it is.

    Attributes:
        partition: of the jobs.
        gpus: of each task: a number, or ``kind:number``.
        time: of each task, as Slurm writes it or as 90m, 3h or 2d.
        qos: quality of service.
        account: that the jobs are charged to.
        constraint: features that a node has to have.
        kinds: features, joined by ``+``; each has an array of its own, and all runs of one block and seed are in one of them.
        cpus: cores of each task.
        mem: memory of each task.
        options: more options of sbatch, a line of the scripts each.
        setup: lines of shell that each job runs first, as ``module load python``.
        command: that starts initbench on a node, in place of the program that is run here.
        stage: folder on a node's own disk that prepared data are copied to.
        array_size: indices of an array, from 0 on; 0 asks Slurm.
        max_parallel: tasks that run at a time; 0 for as many as there is room for.
    """

    partition: str = ""
    gpus: str = ""
    time: str = ""
    qos: str = ""
    account: str = ""
    constraint: str = ""
    kinds: str = ""
    cpus: str = ""
    mem: str = ""
    options: tuple[str, ...] = ()
    setup: str = ""
    command: str = ""
    stage: str = ""
    array_size: int = 0
    max_parallel: int = 0

    @property
    def seconds(self) -> int | None:
        """The time of a task; None where the site decides."""
        if not self.time:
            return None
        return read_time(self.time)

    @property
    def features(self) -> tuple[str, ...]:
        """What the nodes of each array have to have; one array without a constraint where nothing is asked for."""
        if not self.kinds:
            return (self.constraint,)
        return tuple(self.kinds.split("+"))


def read_time(text: str) -> int:
    """Returns the seconds of a time as Slurm writes it (90, 90:00, 1:30:00, 1-12:00:00) or with a unit (90m, 3h, 2d).

    Raises:
        UsageError: it is neither.
    """
    with_unit = _WITH_UNIT.fullmatch(text)
    if with_unit is not None:
        return int(with_unit[1]) * _UNITS[with_unit[2]]
    found = _CLOCK.fullmatch(text)
    if found is None:
        raise UsageError(f"time={text}: write minutes, HH:MM:SS or D-HH:MM:SS, or a number and m, h or d, as 90m or 3h")
    parts = found["clock"].split(":")
    if found["days"] is None:
        weights, seconds = _PARTS[len(parts)], 0
    else:
        weights, seconds = _PARTS_AFTER_DAYS[len(parts)], 86400 * int(found["days"])
    for part, weight in zip(parts, weights, strict=True):
        seconds += int(part) * weight
    return seconds


def site_file() -> Path:
    """Returns where the settings of a site are: INITBENCH_SITE, else `site.toml` in the user's configuration."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen).expanduser()
    return platformdirs.user_config_path("initbench") / "site.toml"


def read_settings(over: Mapping[str, Any]) -> SlurmSettings:
    """Reads the settings of the site file, and lays others over them.

    Args:
        over: settings that somebody gave on the command line.

    Raises:
        UsageError: the file is no TOML, or a setting has an unknown name or a value that it cannot have.
    """
    values = _read_site()
    named: dict[str, Any] = {}
    for key, value in values.items():
        named[key] = _value(key, value, f"{site_file()}: {_TABLE}")
    for key, value in over.items():
        named[key] = _value(key, value, "--slurm")
    settings = SlurmSettings(**named)
    if settings.kinds and settings.constraint:
        raise UsageError("--slurm constraint and kinds exclude each other: take kinds=a+b for an array on each of a and b")
    _ = settings.seconds  # refuses what is no time
    return settings


def read_options(text: str | None) -> dict[str, Any]:
    """Reads the settings of ``--slurm key=value,...``.

    Raises:
        UsageError: a part is no setting.
    """
    found: dict[str, Any] = {}
    for part in (text or "").split(","):
        key, equals, value = part.strip().partition("=")
        if not part.strip():
            continue
        if not equals or not value:
            raise UsageError(f"--slurm {part.strip()}: write settings as partition=gpu,gpus=1,time=4h")
        found[key] = value
    return found


def _read_site() -> dict[str, Any]:
    path = site_file()
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: it cannot be read ({error}); write TOML with a table [{_TABLE}]") from None
    values = table.get(_TABLE, {})
    if not isinstance(values, dict):
        raise UsageError(f"{path}: {_TABLE} is no table; write [{_TABLE}] and a setting in each line under it")
    return values


def _value(key: str, value: Any, where: str) -> Any:
    """Returns a setting as `SlurmSettings` has it.

    Raises:
        UsageError: there is no such setting, or it cannot have the value; `where` begins the message.
    """
    known = {field.name: field.default for field in fields(SlurmSettings)}
    if key not in known:
        raise UsageError(f"{where} {key}: there is no such setting; {did_you_mean(key, known)}")
    if isinstance(known[key], int):
        return _number(key, value, where)
    if isinstance(known[key], tuple):
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, list):
            raise UsageError(f'{where} {key}: write a list of options of sbatch, as ["--exclude=node7"]')
        return tuple(_line(key, line, where) for line in value)
    if key == "setup":
        return str(value).strip("\n")
    return _line(key, value, where)


def _number(key: str, value: Any, where: str) -> int:
    if isinstance(value, bool) or not str(value).isdecimal() or not 0 < int(value) <= _MOST_RUNS:
        raise UsageError(f"{where} {key}={value}: write a whole number from 1 to {_MOST_RUNS:,}")
    return int(value)


def _line(key: str, value: Any, where: str) -> str:
    """Returns a value that may stand in a line of a script."""
    text = str(value)
    if not isinstance(value, str | int) or isinstance(value, bool) or not text or not text.isprintable():
        raise UsageError(f"{where} {key}: write a number, or text of one line")
    return text
