"""Opens a data set by its name or by a path."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from initbench import registry
from initbench.datasets import msd
from initbench.datasets.folder import data_roots, folder_name, levels
from initbench.datasets.known import prescribed
from initbench.datasets.nnunet import NnunetDataset
from initbench.datasets.tables import read_json
from initbench.errors import DataError, UsageError
from initbench.paths import exists, home, is_file
from initbench.protocols import Dataset
from initbench.spec import Spec

ENVIRONMENT = "INITBENCH_DATA"
_KNOWN = (
    "A data set is a registered name (initbench list datasets), a Decathlon folder (dataset.json with modality, labels and "
    "training) or an nnU-Net v2 raw folder (dataset.json with channel_names, labels and file_ending)"
)


def search_path() -> list[Path]:
    """Returns the folders searched after ``--data-root``: those in INITBENCH_DATA (several, as in PATH), then the user's own."""
    paths = [home(item) for item in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if item]
    return [*paths, platformdirs.user_data_path("initbench")]


def open_dataset(name: str, data_root: Path | None = None) -> Dataset:
    """Opens a data set.

    Args:
        name: registered name, path of a Decathlon or nnU-Net raw folder, or the name of one below a data root
            (``Task09_Spleen``, ``Dataset027_ACDC``).
        data_root: folder that holds the data sets.

    Raises:
        UsageError: unknown name, or no data set at a path. DataError: the data are missing or unusable.
    """
    if data_root is not None and not data_root.is_dir():
        raise UsageError(f"--data-root {data_root} is no folder")
    if registry.is_offered("dataset", name):
        return _registered(name, data_root, search_path())
    path = home(name)
    if is_file(path / "dataset.json"):
        return open_folder(path)
    if path.name.startswith("Task") and len(path.parts) == 1:
        return _task(path.name, data_root)
    if len(path.parts) > 1 or exists(path) or os.sep in name:
        raise UsageError(f"{path.absolute()}: there is no dataset.json there. {_KNOWN}")
    folder = _below_roots(name, data_root)
    if folder is None:
        raise registry.unknown("dataset", name, registry.names("dataset"))
    return open_folder(folder)


def _registered(name: str, data_root: Path | None, search: Sequence[Path]) -> Dataset:
    factory = registry.find("dataset", Spec(name)).target
    dataset = factory(data_root, search)
    if not isinstance(dataset, Dataset):
        raise UsageError(f"dataset {name!r} does not fulfil initbench.protocols.Dataset; add what it lacks")
    return dataset


def _task(folder: str, data_root: Path | None) -> Dataset:
    """Opens a task by the name of its folder: the Decathlon's, or one of nnFormer's."""
    theirs = prescribed(folder)
    if theirs is None:
        return msd.open_task(folder, data_root, search_path())
    found = _below_roots(folder, data_root)
    if found is None:
        return _registered(theirs.dataset, data_root, search_path())
    return open_folder(found)


def _below_roots(name: str, data_root: Path | None) -> Path | None:
    """Returns the first folder of a name that has a dataset.json; None where there is none."""
    for root in data_roots(data_root, search_path()):
        for level in levels(root):
            if is_file(level / name / "dataset.json"):
                return level / name
    return None


def open_folder(path: Path) -> Dataset:
    """Opens the data set in a folder with a dataset.json: nnU-Net v2's or the Decathlon's, by the keys of its table.

    A registered task that nnU-Net converted is that task, with its split and recipe, and so is what nnFormer and UNETR++ ask for.

    Raises:
        DataError: the table is neither's, or the data are unusable.
    """
    table = read_json(path / "dataset.json")
    if isinstance(table, dict) and ("channel_names" in table or "file_ending" in table):
        return msd.converted(path) or NnunetDataset(path)
    if isinstance(table, dict) and table and not {"modality", "labels", "training"} & set(table):
        raise DataError(f"{path / 'dataset.json'} has the keys {', '.join(map(str, list(table)[:8]))}. {_KNOWN}")
    return _prescribed(path) or msd.MsdDataset(path)


def _prescribed(path: Path) -> Dataset | None:
    """Opens the registered data set that a folder holds by the name that nnFormer asks for, and by the ids of its cases."""
    theirs = prescribed(folder_name(path))
    if theirs is None:
        return None
    layout = msd.with_reported(path)
    if layout is None or not all(re.fullmatch(theirs.ids, case) for case in layout.files):
        return None
    return _registered(theirs.dataset, path, [])
