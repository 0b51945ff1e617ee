"""The former name of `initbench.datasets.folder`."""

from initbench.datasets.folder import FolderDataset, Layout

__all__ = ["FolderDataset", "Layout"]
