"""What a request says of data, network and settings, chosen before anything is prepared or built. The init has no part in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from initbench import registry
from initbench.datasets import splits
from initbench.datasets.open import open_dataset
from initbench.errors import InitbenchError, UsageError
from initbench.harness.hardware import resolve_device, resolve_precision
from initbench.harness.request import RunRequest
from initbench.preprocessing.auto_settings import fill_auto_settings, read_grids
from initbench.preprocessing.prepare import Prepared, case_digests, prepare
from initbench.protocols import (
    BackboneInfo,
    Dataset,
    PatchRule,
    Progress,
    Split,
    check_patch,
    check_variant,
    splits_of,
)
from initbench.recipes.files import default_name
from initbench.recipes.load import as_slices, load_recipe
from initbench.recipes.settings import AutoSettings, Recipe
from initbench.registry import Component
from initbench.spec import Spec


@dataclass(frozen=True)
class Choices:
    """What a request says of data, network and settings; the init has no part in it.

    Attributes:
        reader: digest of the data set's code where that is a plug-in.
        recipe: with numbers in place of its plan.
    """

    dataset: Dataset
    reader: str | None
    split: Split
    backbone: Component[BackboneInfo]
    variant: str
    recipe: Recipe

    def prepare(self, progress: Progress | None = None, before_reading: Callable[[], None] = lambda: None) -> Prepared:
        """Preprocesses what the cache lacks; the arguments are as for `initbench.preprocessing.prepare.prepare`.

        Raises:
            DataError: a case is unusable.
        """
        return prepare(self.dataset, self.split, self.recipe.preprocess, progress, self.reader, before_reading)


def choose(request: RunRequest, progress: Progress | None = None, dataset: Dataset | None = None) -> Choices:
    """Makes the choices that decide how data are preprocessed; reads the training cases where the recipe leaves it to them.

    Args:
        request: the run.
        progress: told of headers that are read.
        dataset: of the request, where it was opened before.

    Raises:
        UsageError: something asked for does not exist or does not fit together. DataError: the data are unusable.
    """
    dataset, reader = dataset or open_dataset(request.dataset.name, request.data_root), _reader(request.dataset)
    backbone = registry.find("backbone", request.backbone)
    recipe = _recipe(dataset, request)
    variant = _variant(backbone, _for_dimension(recipe, backbone.info, request))
    chosen = Choices(dataset, reader, _split(dataset, request), backbone, variant, recipe)
    planned = _planned(chosen, request.assignments, progress)
    return replace(chosen, recipe=_for_dimension(planned, backbone.info, request))


def _for_dimension(recipe: Recipe, info: BackboneInfo, request: RunRequest) -> Recipe:
    """Returns the recipe as it is, or with patches of slices for a network of slices."""
    if info.dimension == 2:
        return as_slices(recipe, request.assignments)
    return recipe


def _recipe(dataset: Dataset, request: RunRequest) -> Recipe:
    """Loads the recipe that is asked for, or the data set's own, and lays the settings over it."""
    return load_recipe(
        request.recipe or default_name(dataset.name, dataset.modality),
        size=request.size,
        backbone=request.backbone.name,
        budget=request.budget,
        assignments=request.assignments,
    )


def check_request(request: RunRequest) -> None:
    """Refuses what is wrong with a request whatever the data hold: names, paths, settings, split and device. No case is read.

    Raises:
        UsageError: says what is wrong. What is wrong with the data is left to the run.
    """
    resolve_precision(request.precision, resolve_device(request.device))
    try:
        dataset = open_dataset(request.dataset.name, request.data_root)
        _split(dataset, request)
    except UsageError:
        raise
    except InitbenchError:
        return
    _recipe(dataset, request)


def _reader(asked: Spec) -> str | None:
    """Returns the digest of the code of a plug-in's data set: what it makes of the same files may change with it."""
    if not registry.is_offered("dataset", asked.name):
        return None
    return registry.find("dataset", asked).source_digest


def _split(dataset: Dataset, request: RunRequest) -> Split:
    """Returns the split that is asked for.

    Raises:
        UsageError: these data cannot be divided so, however they are completed or mended. DataError: they are unusable.
    """
    if request.split == "published" and request.fold is None and not splits_of(dataset):
        raise UsageError(f"--split published: {dataset.name} has no published split; use --split auto")
    if request.fold is not None and request.split is None:
        number, of = splits.parse_fold(request.fold)
        patients = len(splits.patients_of(dataset, dataset.case_ids()))
        if patients < of:
            raise UsageError(
                f"--fold {number}/{of}: {dataset.name} has {patients} labelled cases (or patients); ask for so many folds at most"
            )
    return splits.resolve_split(dataset, request.split, request.fold, request.train_cases)


def reported_patients(request: RunRequest) -> int | None:
    """Counts the patients that a run would report, from the names of its cases; None where its data cannot be read or divided."""
    try:
        dataset = open_dataset(request.dataset.name, request.data_root)
        return len(splits.patients_of(dataset, _split(dataset, request).test))
    except InitbenchError:
        return None


def _planned(chosen: Choices, assignments: Sequence[str], progress: Progress | None) -> Recipe:
    """Returns the recipe with numbers in place of what it leaves to the training cases."""
    recipe, train = chosen.recipe, chosen.split.train
    if recipe.plan == AutoSettings():
        return recipe
    grids = read_grids(chosen.dataset, train, case_digests(chosen.dataset, train, chosen.reader), progress, chosen.reader)
    rule = planning_rule(chosen.backbone.info, chosen.variant)
    set_by_hand = [assignment.partition("=")[0].strip() for assignment in assignments]
    return fill_auto_settings(recipe, grids, rule, set_by_hand)


def patch_rule(info: BackboneInfo, variant: str | None = None) -> PatchRule:
    """Returns which patches a network takes, its first variant by default; any where it does not say."""
    return info.patches.get(variant or info.variants[0], PatchRule((1, 1, 1)))


def planning_rule(info: BackboneInfo, variant: str | None = None) -> PatchRule:
    """Returns which patches a plan may choose: what the network takes, and for a network of slices volumes of such slices."""
    rule = patch_rule(info, variant)
    if info.dimension == 2:
        return replace(rule, depth=None)
    return rule


def _variant(backbone: Component[BackboneInfo], recipe: Recipe) -> str:
    """Chooses the variant: the one in the component string, before the recipe's; it has to take the recipe's patches."""
    name, info = backbone.spec.name, backbone.info
    asked = backbone.params["variant"] or recipe.variant or info.variants[0]
    try:
        variant = check_variant(name, str(asked), info)
        check_patch(f"{name} ({variant})", recipe.patch.size, patch_rule(info, variant))
    except ValueError as error:
        raise UsageError(str(error)) from None
    _check_batches(name, info, recipe)
    if recipe.patch.neighbours and info.dimension == 3:
        raise UsageError(f"patch.neighbours is for networks of slices, and {name} sees volumes: leave it at 0")
    return variant


def _check_batches(name: str, info: BackboneInfo, recipe: Recipe) -> None:
    """Refuses batches of more patches than the network takes at a time, and names the settings that are too large."""
    most = info.most_batch
    if most is None:
        return
    batches = {"patch": recipe.patch.batch, "pretext": recipe.pretext.batch, "inference": recipe.inference.batch}
    mended = []
    for section, batch in batches.items():
        if batch > most:
            mended.append(f"--set {section}.batch={most}")
    if mended:
        raise UsageError(f"{name} takes batches of {most} at most; use {' '.join(mended)}")
