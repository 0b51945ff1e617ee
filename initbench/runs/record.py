"""The record of a run: every key of ``record.json``, what it holds and in which unit. No torch.

`initbench.harness.record` fills records, `initbench.runs.store` writes and reads their files, everybody else reads attributes.
Keys that a later version of initbench added are kept, so that nobody who changes a record and seals it again loses one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from initbench import digest
from initbench.errors import DataError
from initbench.printable import printable

SCHEMA: Literal[1] = 1

# Numbers beyond these are no measurements of a run, and what is computed of them would overflow.
_MOST = 2**53
_LONGEST = 1e12  # seconds, and mm
_NAME = 10_000  # characters
SEVERAL = "+"
"""Stands between the fingerprints of a run that was in hand in several environments."""

Count = Annotated[int, Field(ge=0, le=_MOST)]
Amount = Annotated[int, Field(ge=0, le=int(_LONGEST))] | Annotated[float, Field(ge=0, le=_LONGEST)]
"""Seconds or mm. A whole number stays one, or the digest of the record would change."""
FIRST_MEASURES = ("hd95_mm", "nsd")
MEASURES = (*FIRST_MEASURES, "ravd_percent", "assd_mm", "mssd_mm")
"""Columns of cases.csv that hold distances. `FIRST_MEASURES` are all that versions before the others measured."""

Share = Annotated[int, Field(ge=0, le=1)] | Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1, max_length=_NAME)]
Text = Annotated[str, Field(max_length=_NAME)]
FileName = Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=255)]


class RecordError(DataError):
    """A record cannot be used; the message says why, and not of which folder it is."""


class Part(BaseModel):
    """A part of a record. It takes nothing of another type than it states, and keeps keys that it does not know."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, allow_inf_nan=False, populate_by_name=True)

    def written(self) -> dict[str, Any]:
        """Returns the values as they stand in the file: keys that were never set are not in it."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Asked(Part):
    """The run as it was asked for: the fields of `initbench.harness.request.RunRequest`, with absolute paths.

    Records of the first versions hold some of them only.
    """

    init: Name = Field("default", description="initializer with its parameters")
    backbone: Name = Field("unetr", description="backbone with its parameters")
    dataset: Text = Field("", description="registered name, path, or name of a folder below the data root; empty where unknown")
    seed: Count = Field(0, description="seed of all streams")
    budget: Name = Field("paper", description="smoke, short or paper")
    protocol: Name = Field("equal-total", description="equal-total or equal-finetune")
    regimen: Name = Field("plain", description="how the supervised stage is run")
    regimen_budget: Name = Field("steps", description="steps or compute: what runs of two regimens have in common")
    size: Name = Field("paper", description="tiny or paper")
    device: Name = Field("auto", description="auto, cpu, cuda or cuda:i")
    precision: Name = Field("auto", description="auto, bf16 or float32")
    data_root: Name | None = Field(None, description="folder that holds the data sets")
    out: Name | None = Field(None, description="folder of the runs, as it was typed")
    split: Name | None = Field(None, description="auto, published, or the name of a split")
    fold: Name | None = Field(None, description="k/K in place of a split")
    train_cases: Count | None = Field(None, description="number of training cases that are used; null for all")
    recipe: Name | None = Field(None, description="name or file of a recipe")
    assignments: list[Text] = Field([], description="settings that were changed, as key=value")
    threads: Annotated[int, Field(ge=1, le=_MOST)] = Field(1, description="threads on the CPU")
    fixed: list[Name] = Field([], description="streams that give at every seed what they give at seed 0")
    save_predictions: bool = Field(False, description="whether label maps were kept")
    distances: bool = Field(False, description="whether distances between surfaces were asked for")
    nsd_tolerance: Amount = Field(2.0, description="tolerance of the surface Dice, mm")
    checkpoint_every: Amount = Field(300.0, description="seconds between checkpoints")
    device_memory: Amount | None = Field(None, description="GiB of the device that training volumes could take")
    validation: bool = Field(True, description="whether Dice was measured while it trained")
    fast: bool = Field(False, description="whether compiled steps and kernels chosen by timing were asked for")
    index: Count = Field(0, description="place in the sweep; records of later versions have none")


class RecordedRecipe(Part):
    """The resolved recipe. All of its values are kept; the reference of recipes explains them."""

    patch: dict[str, Any] = Field({}, description="size (D, H, W) in voxels, batch and sampling of patches")
    loss: dict[str, Any] = Field({}, description="loss of the supervised stage")
    inference: dict[str, Any] = Field({}, description="sliding window and grids of the evaluation")


class Resolved(Part):
    """What the request came to on this machine and these data: everything that the numbers depend on."""

    init: Name = Field(description="initializer as tables name it: with the parameters that differ from their defaults")
    init_params: dict[str, Any] = Field(
        {}, description="parameters of the initializer; later ones at their defaults are left out"
    )
    init_source: Text = Field("", description="revision of a built-in initializer, else sha256 of its source")
    origin: Text = Field("", description="where the initializer comes from: initbench, a package or a file")
    learned: bool = Field(description="whether the initializer trains on the training cases")
    external: bool = Field(False, description="whether the initializer takes weights from outside")
    backbone: Name = Field(description="backbone as tables name it")
    backbone_source: Text = Field("", description="revision of a built-in backbone, else sha256 of its source")
    variant: Text = Field(description="variant of the backbone")
    size: Name = Field(description="tiny or paper")
    dataset: Name = Field(description="name of the data set")
    data_digest: Text = Field(description="sha256 over the preprocessed cases and the split")
    preprocess: dict[str, Any] = Field({}, description="numbers of the preprocessing: spacing (D, H, W) in mm, intensities")
    split: Text = Field(description="name of the split, with the fold and the number of training cases")
    split_caveat: Text = Field("", description="what has to be known of the split before believing its results")
    train_cases: list[Name] = Field(description="ids of the training cases")
    reported_cases: list[Name] = Field(description="ids of the cases that are scored")
    patients: dict[Name, Name] = Field({}, description="patient of each reported case; empty in records of the first versions")
    classes: list[Name] = Field(description="names of what is scored, background first")
    labels: list[Name] = Field([], description="names of the values of label maps, where regions are scored; else `classes`")
    regions: dict[Name, list[Count]] | None = Field(None, description="label values of each scored region, where it has some")
    seed: Count = Field(description="seed of all streams")
    fixed_streams: list[Name] = Field([], description="streams that give at every seed what they give at seed 0")
    budget: Name = Field(description="smoke, short or paper")
    steps: Count = Field(description="steps of both stages together")
    protocol: Name = Field(description="equal-total or equal-finetune; any for initializers that learn nothing")
    regimen: Name = Field("plain", description="how the supervised stage is run, as tables name it")
    regimen_params: dict[str, Any] = Field(
        {}, description="parameters of the regimen; of plain, and later ones at defaults, none"
    )
    regimen_source: Text = Field("", description="revision of a built-in regimen, else sha256 of its source; empty for plain")
    regimen_budget: Name = Field(
        "any", description="steps or compute: what it has in common with a plain run; any for plain, which is the same under both"
    )
    precision: Name = Field(description="bf16 or float32")
    recipe: RecordedRecipe = Field(RecordedRecipe(), description="the resolved recipe")
    recipe_digest: Name = Field(description="digest of everything that two initializers must share to be compared")
    dice_policy: Name = Field("reference-mask", description="what a class scores where the reference lacks it")


class Git(Part):
    """State of the checkout that initbench ran from."""

    commit: Text = Field("", description="commit; empty where it is unknown")
    dirty: bool = Field(False, description="whether tracked files were changed")


class Environment(Part):
    """Where the run was done. It is no part of what a cell is; tables warn where runs of several environments are compared."""

    python: Text | None = Field(None, description="version of Python")
    platform: Text | None = Field(None, description="operating system")
    cpu: Text | None = Field(None, description="model of the CPU")
    device: Text | None = Field(None, description="device as torch names it")
    accelerator: Text | None = Field(None, description="model of the GPU; null on the CPU")
    cuda: Text | None = Field(None, description="version of CUDA; null on the CPU")
    cudnn: Count | None = Field(None, description="version of cuDNN as one number; null on the CPU")
    threads: Count | None = Field(None, description="threads on the CPU")
    fast: Text | None = Field(
        None, description="with --fast, whether steps could be compiled there: compiled or eager; null without it"
    )
    packages: dict[str, Text | None] = Field({}, description="versions of the packages that compute")
    git: Git | None = Field(None, description="the checkout; null where initbench is installed as a package")
    command: list[str] = Field([], description="the command line")
    machines: list[Text] = Field([], description="fingerprints of all environments that the run was in hand in")
    fingerprint: Text = Field("", description="digest of machine, packages and threads: what decides bits")


class Coverage(Part):
    """What the initializer changed and read, measured from outside. ``coverage.json`` has it by parameter."""

    changed_share: Share | None = Field(None, description="share of the parameters that it changed; null where it diverged")
    groups: dict[str, Share] = Field({}, description="the same by top-level module")
    read: list[Name] = Field([], description="what it read of the training cases: images, labels")
    report: dict[str, Any] = Field({}, description="what the initializer says of itself; `summary` is for people")

    @property
    def summary(self) -> str:
        """What the initializer says of itself in a sentence."""
        return str(self.report.get("summary", ""))


class StageCost(Part):
    """What a stage cost."""

    steps: Count = Field(0, description="optimizer steps")
    patches: Count = Field(0, description="patches that were seen")
    seconds: Amount = Field(0, description="seconds, those before a stop among them")
    units: Count = Field(
        0,
        description="cost in passes through the network: a forward 1, a backward 2; 0 in records that are older than this count",
    )


class ValidationCost(Part):
    """What Dice over the steps took, beside the cost of the run; all 0 where it was not measured."""

    points: Count = Field(0, description="points at which the network was looked at")
    cases: Count = Field(0, description="cases that it predicted at each")
    passes: Count = Field(0, description="forward passes of one patch, of all points together")
    seconds: Amount = Field(0, description="seconds, in no other number of seconds")


class Cost(Part):
    """What a run cost; all 0 where it has no result."""

    init: StageCost = Field(StageCost(), description="the init stage")
    train: StageCost = Field(StageCost(), description="the supervised stage")
    evaluate_seconds: Amount = Field(0, description="seconds of the evaluation, without distances")
    total_seconds: Amount = Field(0, description="seconds of both stages and the evaluation")
    device_seconds: Amount = Field(0, description="the same on a GPU; 0 on the CPU")
    peak_memory: Count = Field(0, description="bytes at the peak of training: of the GPU, else of the process")
    distance_seconds: Amount = Field(0, description="seconds that distances took; 0 in records that are older than distances")
    validation: ValidationCost = Field(ValidationCost(), description="Dice over the steps; not in `total_seconds`")


class DistanceMethod(Part):
    """How distances were measured."""

    tool: Text = Field(description="package that computes them")
    version: Text = Field(description="its version")
    percentile: Amount = Field(description="percentile of HD")
    nsd_tolerance_mm: Amount = Field(description="tolerance of the surface Dice, mm")


class MeanDistance(Part):
    """A mean over the cases that have a value."""

    mean: Amount | None = Field(description="mm, a share for surface Dice, % for RAVD; null where no case has a value")
    cases: Count = Field(description="cases with a value")
    reference_empty: Count = Field(0, description="cases without one, because the reference lacks the class")
    prediction_empty: Count = Field(0, description="cases without one, because the prediction lacks the class (distances in mm)")


class Where(Part):
    """Where a run failed."""

    state: Text = Field(description="pending, pretraining, training or evaluating")
    step: Count = Field(description="steps, or cases, that were done")
    total: Count = Field(description="of how many")


class Coming(Part):
    """A file that is about to be replaced."""

    digest: Text = Field(description="sha256 of the new file")
    size: Count = Field(description="its bytes")


class Head(Part):
    """What is known before a run: what was asked, what it resolves to, and where it runs."""

    schema_number: Literal[1] = Field(SCHEMA, alias="schema", description="version of this format")
    cell: Name = Field(description="id of the cell: digest of everything but the seed that the numbers depend on")
    finished: Text = Field("", description="when the record was written, UTC in ISO form")
    asked: Asked = Field(Asked(), description="what was asked")
    resolved: Resolved = Field(description="what it came to")
    environment: Environment = Field(Environment(), description="where it ran")


class Record(Head):
    """The record of a run that ended."""

    status: Literal["ok", "diverged", "failed"] = Field(description="how it ended; a diverged run scores 0, a failed one nothing")
    dice: Share | None = Field(None, description="Dice: mean over scored classes, then over cases; null where nothing is scored")
    dice_per_class: dict[str, Share | None] = Field({}, description="mean over the cases that hold the class")
    dice_resampled: Share | None = Field(None, description="`dice` on the preprocessed grid, where the recipe asks for it")
    dice_per_class_resampled: dict[str, Share | None] = Field({}, description="`dice_per_class` on the preprocessed grid")
    distances: DistanceMethod | None = Field(None, description="how distances were measured; null where they were not")
    hd95_mm_per_class: dict[str, MeanDistance] | None = Field(None, description="HD95 in mm per class")
    nsd_per_class: dict[str, MeanDistance] | None = Field(None, description="surface Dice per class, as a share")
    ravd_percent_per_class: dict[str, MeanDistance] | None = Field(
        None, description="relative absolute volume difference in % per class; null where an older version measured"
    )
    assd_mm_per_class: dict[str, MeanDistance] | None = Field(
        None, description="average symmetric surface distance in mm per class; null where an older version measured"
    )
    mssd_mm_per_class: dict[str, MeanDistance] | None = Field(
        None, description="maximum symmetric surface distance in mm per class; null where an older version measured"
    )
    coverage: Coverage = Field(Coverage(), description="what the initializer changed and read")
    regimen_report: dict[str, Any] = Field({}, description="what the regimen says of itself; `summary` is for people")
    cost: Cost = Field(Cost(), description="seconds, steps and bytes")
    weights_digest: Text | None = Field(None, description="digest of all weights and buffers after training")
    weights_from: Name | None = Field(
        None,
        description="id of the cell whose run trained these weights, where another one did, which differs in inference alone",
    )
    reason: str | None = Field(None, description="why it diverged or failed")
    notes: list[str] = Field([], description="what happened on the way, as a checkpoint that was not whole")
    traceback: FileName | None = Field(None, description="file with the traceback of a failed run")
    where: Where | None = Field(None, description="where it failed")
    files: dict[FileName, Text] = Field({}, description="sha256 of the files beside the record")
    sizes: dict[FileName, Count] = Field({}, description="their bytes")
    coming: dict[FileName, Coming] = Field({}, description="files that are about to be replaced, by what")
    digest: Text | None = Field(None, description="sha256 of all of the above in canonical form: sorted keys, no spaces")

    @property
    def regimen_summary(self) -> str:
        """What the regimen has to say to a reader of results, in a sentence; empty where that is nothing."""
        return str(self.regimen_report.get("summary", ""))

    @property
    def measures(self) -> tuple[str, ...]:
        """Columns of cases.csv that hold distances of this run: none where nobody asked for any."""
        if self.distances is None:
            return ()
        if self.ravd_percent_per_class is None:
            return FIRST_MEASURES
        return MEASURES

    def has_distances(self, tolerance_mm: float) -> bool:
        """Returns whether everything is there that measuring at this tolerance gives today."""
        if self.distances is None or self.measures != MEASURES:
            return False
        return self.distances.nsd_tolerance_mm == tolerance_mm

    @property
    def has_result(self) -> bool:
        """Whether the run was scored: it ended well or diverged."""
        return self.status != "failed"

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.files.keys() != self.sizes.keys():
            raise ValueError("files and sizes name different files")
        named = self.resolved.patients
        if named and not named.keys() >= set(self.resolved.reported_cases):
            raise ValueError("resolved.patients names no patient of some reported case")
        if self.has_result and "cost" not in self.model_fields_set:
            raise ValueError(f"a run that ended {self.status} has a cost")
        return self

    def changed(self, **values: Any) -> Record:
        """Returns the record with other values, not sealed yet."""
        return self.without().model_copy(update=values)

    def without(self, *names: str) -> Record:
        """Returns the record without its digest and these keys."""
        kept = self.written()
        for name in (*names, "digest"):
            kept.pop(name, None)
        return Record.model_validate(kept)

    def content_digest(self) -> str:
        """Returns the digest of all values but the digest itself.

        Raises:
            ValueError: a value that initbench does not know is no finite number, or is nested too deeply.
        """
        values = self.written()
        values.pop("digest", None)
        return digest.of_json(values)


def parse_record(data: bytes) -> Record:
    """Reads the record that a file holds. Where a key stands twice in it, the last one counts.

    Raises:
        RecordError: the file holds no JSON, is of another version, or does not fit.
    """
    try:
        values = from_json(data, allow_inf_nan=False)
    except ValueError as error:
        raise RecordError(f"it is no JSON: {error}") from None
    if not isinstance(values, dict):
        raise RecordError("it holds no JSON object")
    schema = values.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RecordError(f"a later version of initbench wrote it (schema {schema}, this one reads {SCHEMA})")
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        raise RecordError(complaint(error, values)) from None


def complaint(error: ValidationError, values: object = None) -> str:
    """Says the first fault of values that do not fit, in one line, and how many others there are.

    Args:
        error: what was found.
        values: what was looked at; without them the place of the fault may end in pydantic's own marks.
    """
    faults: dict[str, str] = {}  # of a number that is neither whole nor another one, the latter complaint counts
    for fault in error.errors(include_url=False, include_input=False):
        if values is None:
            parts = [str(part) for part in fault["loc"]]
        else:
            parts = _place(fault, values)
        faults[".".join(parts)] = fault["msg"]
    place, message = next(iter(faults.items()))
    message = message.partition(" or instance of ")[0]
    for written, shown in (("Value error, ", ""), ("Input should", "should"), ("Field required", "is missing")):
        message = message.replace(written, shown)
    said = f"{place} {message}"
    if len(faults) > 1:
        said += f" (and {len(faults) - 1} more)"
    return printable(said.strip())


def _place(fault: ErrorDetails, values: object) -> list[str]:
    """Returns the keys that lead to a fault; pydantic's own marks behind them, as the kind of number it tried, are left out."""
    names: list[str] = []
    for part in fault["loc"]:
        if isinstance(values, dict):
            names.append(str(part))
            values = values.get(part)
        elif isinstance(values, list) and isinstance(part, int):
            names.append(str(part))
            values = values[part]
    return names
