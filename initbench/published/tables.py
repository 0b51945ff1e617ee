"""Tables of papers, read from the TOML files beside this module: what a table prints, and what each row is in this registry."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from initbench.choices import REGIMEN, Protocol, TablePolicy
from initbench.errors import UsageError, did_you_mean

Points = Annotated[float, Field(ge=0.0, le=100.0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Row(_Model):
    """A row of a table, and what it is here.

    Attributes:
        label: as the paper has it; claims refer to it.
        value: Dice points; None where no text states the number.
        values: per class, in the order of the table's classes.
        runs: behind the value; None where the paper does not say.
        source: the table, with the code where it is of one.
        init: with its parameters; empty where the row is not mapped.
        regimen: how the supervised stage is run.
        backbone: with its variant.
        set: settings over the recipe, as in ``--set``.
        length: times the steps of the recipe.
        train_cases: number of training cases; None for all of the split.
        split: name of a published split; the usual one where empty.
        needs: an assignment without which the row cannot run, as ``init.path``. Where rows of several networks need one, each has
            its own, as ``init.path.transunet``.
        starts_from: the weights from outside that the paper's network starts from; empty where it starts from random ones, or
            where nobody says.
        hd95: in voxels, where a text states it.
        hd95_source: where it does not stand in the paper itself.
        policy: what a class scores that the reference lacks, where that is not the table's.
        only: backbones on which the row means something; empty for all.
        unmapped: why there is no counterpart here.
        settings: of the paper, where the table is of settings.
        x: the parameter of a figure.
        series: the line of a figure that the row is on.
        deviations: what is known to be done otherwise, by the paper, its release or here.
    """

    label: str
    value: Points | None = None
    values: tuple[Points, ...] = ()
    runs: int | None = Field(default=None, ge=1)
    source: str = Field(min_length=1)
    init: str = ""
    regimen: str = REGIMEN
    backbone: str = ""
    dataset: str = ""
    protocol: Protocol = "equal-finetune"
    set: tuple[str, ...] = ()
    length: float = Field(default=1.0, gt=0)
    train_cases: int | None = Field(default=None, ge=1)
    split: str = ""
    needs: str = ""
    starts_from: str = ""
    hd95: float | None = Field(default=None, gt=0)
    hd95_source: str = ""
    policy: TablePolicy | None = None
    only: tuple[str, ...] = ()
    unmapped: str = ""
    settings: dict[str, int | tuple[float, ...]] = {}
    x: float | None = None
    series: str = ""
    deviations: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_mapped_or_says_why_not(self) -> Row:
        if bool(self.unmapped) == bool(self.init and self.backbone and self.dataset):
            raise ValueError(f"row {self.label!r}: either init, backbone and dataset, or unmapped")
        return self


class Claim(_Model):
    """A comparison that a table shows: `first` against `second`, by their published values or, without them, in words."""

    first: str
    second: str
    says: Literal["better", "worse"] | None = None


class Table(_Model):
    """A table or figure.

    Attributes:
        name: as ``table-6``; `full_name` has the paper's key before it.
        classes: of the rows' values, as data sets here call them.
        class_set: the classes that are scored on the published data set, as `--classes` takes them; all where empty.
        grid: on which the paper counts voxels, and
        policy: what a class scores there that the reference lacks; on the published data set runs are scored likewise.
        parameter: what a figure is drawn against; empty for a table.
        deviations: of the table and, after them, of all of the paper.
    """

    name: str
    paper: str
    key: str
    release: str
    title: str
    kind: Literal["dice", "settings"] = "dice"
    source: str
    classes: tuple[str, ...] = ()
    class_set: str = ""
    grid: Literal["native", "resampled"] = "native"
    policy: Literal["reference-mask", "worst"] = "reference-mask"
    parameter: str = ""
    row: tuple[Row, ...]
    claims: tuple[Claim, ...] = ()
    deviations: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As people ask for it: ``lwi:table-6``."""
        return f"{self.key}:{self.name}"

    @property
    def labels(self) -> list[str]:
        """The labels of its rows."""
        return [row.label for row in self.row]

    def __getitem__(self, label: str) -> Row:
        for row in self.row:
            if row.label == label:
                return row
        raise KeyError(label)

    def policy_of(self, labels: Iterable[str]) -> TablePolicy:
        """Returns the rule for classes that the reference lacks, for rows that are scored together.

        It is the rule of the rows where they all have the same one, else the rule of the table.
        """
        together = set(labels)
        own = {row.policy for row in self.row if row.label in together}
        if len(own) == 1:
            return own.pop() or self.policy
        return self.policy

    def published(self, claim: Claim) -> float | None:
        """Returns the published difference of a claim in Dice points; None where one of its rows has no value."""
        first, second = self[claim.first].value, self[claim.second].value
        if first is None or second is None:
            return None
        return round(first - second, 2)  # as many digits as are printed

    @model_validator(mode="after")
    def _is_consistent(self) -> Table:
        labels = self.labels
        if len(set(labels)) < len(labels):
            raise ValueError(f"{self.name}: a label is there twice")
        for row in self.row:
            if row.values and len(row.values) != len(self.classes):
                raise ValueError(f"{self.name}, {row.label}: {len(row.values)} values for {len(self.classes)} classes")
        for claim in self.claims:
            if not {claim.first, claim.second} <= set(labels):
                raise ValueError(f"{self.name}: a claim about rows that are not there: {claim.first}, {claim.second}")
            if (self.published(claim) is None) == (claim.says is None):
                raise ValueError(f"{self.name}, {claim.first}: a claim says something in numbers or in words, one of both")
        return self


@cache
def tables() -> tuple[Table, ...]:
    """Returns all tables, in the order of the files."""
    found: list[Table] = []
    for file in sorted(resources.files("initbench.published").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            found.extend(_paper(tomllib.loads(file.read_text("utf-8"))))
    return tuple(found)


def get(name: str) -> Table:
    """Returns a table by its full name.

    Raises:
        UsageError: there is none; suggests the nearest.
    """
    known = {table.full_name: table for table in tables()}
    if name not in known:
        raise UsageError(f"nothing published is called {name!r}: {did_you_mean(name, known)} (initbench reproduce)")
    return known[name]


def _paper(file: dict[str, Any]) -> list[Table]:
    common = {"paper": file["paper"], "key": file["key"], "release": file["release"]}
    return [Table.model_validate(_filled(table, common, file["deviations"])) for table in file["table"]]


def _filled(table: dict[str, Any], common: dict[str, Any], deviations: list[str]) -> dict[str, Any]:
    """Returns a table with what it takes over from its paper, and its rows with what they take over from it.

    Args:
        table: as written.
        common: fields that every table of the paper gets.
        deviations: of the whole paper; they follow the table's own.
    """
    own = dict(table)
    shared = {"source": table["source"]}
    setting = {key: own.pop(key) for key in ("backbone", "dataset") if key in own}
    rows = []
    for row in table["row"]:
        if "unmapped" in row:
            rows.append(shared | row)
        else:
            rows.append(shared | setting | row)
    return {**common, **own, "row": rows, "deviations": [*table.get("deviations", []), *deviations]}
