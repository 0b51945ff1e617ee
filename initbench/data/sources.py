"""A data set by name or by path."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from initbench import registry
from initbench.data import msd
from initbench.data.nnunet import NnunetDataset
from initbench.data.tables import read_json
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
    """Where data sets are looked for after ``--data-root``: INITBENCH_DATA (several, as in PATH), then the user's data folder."""
    paths = [home(item) for item in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if item]
    return [*paths, platformdirs.user_data_path("initbench")]


def open_dataset(name: str, data_root: Path | None = None) -> Dataset:
    """Opens a data set.

    Args:
        name: registered name, path of a Decathlon or nnU-Net raw folder, or the name of one below a data root
            (``Task09_Spleen``, ``Dataset027_ACDC``).
        data_root: folder that holds the data sets.

    Raises:
        UsageError: unknown name. DataError: the data are missing or unusable.
    """
    if data_root is not None and not data_root.is_dir():
        raise DataError(f"--data-root {data_root} is no folder")
    if name in registry.names("dataset"):
        factory = registry.get("dataset", Spec(name)).target
        dataset = factory(data_root, search_path())
        if not isinstance(dataset, Dataset):
            raise UsageError(f"dataset {name!r} does not fulfil initbench.protocols.Dataset")
        return dataset
    path = home(name)
    if is_file(path / "dataset.json"):
        return open_folder(path)
    if path.name.startswith("Task") and len(path.parts) == 1:
        return msd.open_task(path.name, data_root, search_path())
    if len(path.parts) > 1 or exists(path):
        raise DataError(f"{path.absolute()}: there is no dataset.json there. {_KNOWN}")
    for root in [*([data_root] if data_root else []), *search_path()]:
        if is_file(root / name / "dataset.json"):
            return open_folder(root / name)
    raise registry.unknown("dataset", name, registry.names("dataset"))


def open_folder(path: Path) -> Dataset:
    """The data set in a folder with a dataset.json: nnU-Net v2's or the Decathlon's, by the keys of its table.

    A registered task that nnU-Net converted is that task, with its split and recipe.

    Raises:
        DataError: the table is neither's, or the data are unusable.
    """
    table = read_json(path / "dataset.json")
    if isinstance(table, dict) and ("channel_names" in table or "file_ending" in table):
        return msd.converted(path) or NnunetDataset(path)
    if isinstance(table, dict) and table and not {"modality", "labels", "training"} & set(table):
        raise DataError(f"{path / 'dataset.json'} has the keys {', '.join(map(str, list(table)[:8]))}. {_KNOWN}")
    return msd.MsdDataset(path)
