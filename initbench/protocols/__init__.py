"""The contracts between the rooms. Imports nothing of ours.

Tensors are ``(N, C, D, H, W)`` and spacings are in mm in the same order. ``D`` is the slice axis: superior-inferior, or the
coarsest axis where one spacing is at least three times the others. It is bound once per data set, by name, never by index.
"""

from initbench.protocols.backbones import Backbone, BackboneInfo, PatchError, PatchRule, backbone, check_patch, check_variant
from initbench.protocols.basics import SIZES, Axes, Dimension, Grid, Layout, NoProgress, Progress, Size, Spacing
from initbench.protocols.datasets import (
    Case,
    Dataset,
    Remark,
    Split,
    caveat_of,
    copies_are_meant,
    group_of,
    regions_of,
    remarks_of,
    splits_of,
    stated_of,
)
from initbench.protocols.executors import Device, Executor, KindRule, OneRun, QueuedRun, Reporter, StudyWork, Submission
from initbench.protocols.initializers import Crops, InitContext, Initializer, InitializerInfo, Patches, Role, Site, initializer
from initbench.protocols.regimens import (
    BACKWARD,
    FORWARD,
    PLAIN_UNITS,
    Labelled,
    Regimen,
    RegimenContext,
    RegimenInfo,
    regimen,
)
from initbench.protocols.structure import FileLayout, ImageWeights, KeySign, Level, Published, Structure, Tokens, structure_of
from initbench.protocols.training import Task

__all__ = [
    "BACKWARD",
    "FORWARD",
    "PLAIN_UNITS",
    "SIZES",
    "Axes",
    "Backbone",
    "BackboneInfo",
    "Case",
    "Crops",
    "Dataset",
    "Device",
    "Dimension",
    "Executor",
    "FileLayout",
    "Grid",
    "ImageWeights",
    "InitContext",
    "Initializer",
    "InitializerInfo",
    "KeySign",
    "KindRule",
    "Labelled",
    "Layout",
    "Level",
    "NoProgress",
    "OneRun",
    "PatchError",
    "PatchRule",
    "Patches",
    "Progress",
    "Published",
    "QueuedRun",
    "Regimen",
    "RegimenContext",
    "RegimenInfo",
    "Remark",
    "Reporter",
    "Role",
    "Site",
    "Size",
    "Spacing",
    "Split",
    "Structure",
    "StudyWork",
    "Submission",
    "Task",
    "Tokens",
    "backbone",
    "caveat_of",
    "check_patch",
    "check_variant",
    "copies_are_meant",
    "group_of",
    "initializer",
    "regimen",
    "regions_of",
    "remarks_of",
    "splits_of",
    "stated_of",
    "structure_of",
]
