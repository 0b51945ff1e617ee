"""A data set by name or by path."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from initbench import registry
from initbench.data.msd import MsdDataset, find_folder
from initbench.errors import DataError, UsageError
from initbench.protocols import Dataset
from initbench.spec import Spec

ENVIRONMENT = "INITBENCH_DATA"


def search_path() -> list[Path]:
    """Where data sets are looked for after ``--data-root``: INITBENCH_DATA (several, as in PATH), then the user's data folder."""
    paths = [Path(item).expanduser() for item in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if item]
    return [*paths, platformdirs.user_data_path("initbench")]


def open_dataset(name: str, data_root: Path | None = None) -> Dataset:
    """Opens a data set.

    Args:
        name: registered name, path of a Decathlon folder, or the name of one below a data root (``Task09_Spleen``).
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
    path = Path(name).expanduser()
    if (path / "dataset.json").is_file():
        return MsdDataset(path)
    if path.name.startswith("Task") and len(path.parts) == 1:
        return MsdDataset(find_folder(path.name, data_root, search_path()))
    if len(path.parts) > 1 or path.exists():
        raise DataError(
            f"{path.absolute()}: there is no dataset.json there; a data set is a Decathlon folder or a registered name"
        )
    for root in [*([data_root] if data_root else []), *search_path()]:
        if (root / name / "dataset.json").is_file():
            return MsdDataset(root / name)
    raise registry.unknown("dataset", name, registry.names("dataset"))
