"""The names of `initbench.datasets.folder` that plug-ins import from here, where they were first."""

from initbench.datasets.folder import FolderDataset
from initbench.datasets.folder import FolderLayout as Layout

__all__ = ["FolderDataset", "Layout"]
