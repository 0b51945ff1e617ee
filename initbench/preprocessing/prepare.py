"""From a data set to cached volumes that training and evaluation map into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench import cache, digest
from initbench.datasets.duplicates import Content, check_copies, content_of
from initbench.datasets.remarks import summarized
from initbench.errors import DataError
from initbench.preprocessing.preprocess import CaseScan, Parameters, Placement, preprocess, resolve_parameters, scan
from initbench.protocols import Case, Dataset, NoProgress, Progress, Remark, Split, group_of, regions_of, remarks_of
from initbench.recipes.settings import Preprocess

_NOTICED = "noticed"  # in the table of a cached volume


@dataclass(frozen=True)
class PreparedCase:
    """One case of the cache.

    `image` is ``(C, D, H, W)`` float32 and `label` ``(D, H, W)``, both preprocessed; `reference` is the label on the native
    grid with its `affine`. All are memory maps.
    """

    id: str
    image: NDArray[np.float32]
    label: NDArray[np.uint8]
    reference: NDArray[np.uint8]
    affine: NDArray[np.float64]
    placement: Placement


@dataclass(frozen=True)
class Prepared:
    """A data set ready for the device.

    Attributes:
        classes: what networks tell apart, the background first.
        regions: label numbers by region, where unions of labels are reported in place of the classes.
        patients: the patient of each reported case. They decide no number of a run, so no digest holds them.
        remarks: what should be known before hours are spent: of the split, the tables, the headers, of copies.
    """

    name: str
    classes: tuple[str, ...]
    channels: int
    split: Split
    parameters: Parameters
    digest: str
    keys: dict[str, str]
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def reported(self) -> tuple[str, ...]:
        """What is reported, the background first: the regions, else the classes."""
        return (self.classes[0], *self.regions) if self.regions else self.classes

    @property
    def first(self) -> int:
        """Number of the first one in tables. Regions are numbered behind the labels: pictures show labels."""
        return len(self.classes) if self.regions else 1

    def case(self, case_id: str) -> PreparedCase:
        """Maps one case.

        Raises:
            OSError: the cache lost it since it was prepared.
        """
        item = cache.read_item("volumes", self.keys[case_id])
        if item is None:
            raise OSError(f"case {case_id} vanished from the cache {cache.root()}; run the command again to rebuild it")
        placement = Placement.from_json(item.meta["placement"])
        affine = np.array(item.meta["affine"], np.float64)
        return PreparedCase(case_id, item.array("image"), item.array("label"), item.array("reference"), affine, placement)


def case_digests(dataset: Dataset, case_ids: Sequence[str], source: str | None = None) -> dict[str, str]:
    """What tells one content of a case from another, by case: its bytes, and what its reader makes of them.

    Args:
        dataset: whose cases they are.
        case_ids: of them.
        source: digest of the reader's code where that is a plug-in; built-in readers change voxels under another revision alone.
    """
    found = {case_id: dataset.digest(case_id) for case_id in case_ids}
    return found if source is None else {case_id: digest.of_json([value, source]) for case_id, value in found.items()}


def data_digest(dataset: Dataset, split: Split, source: str | None = None) -> tuple[str, dict[str, str]]:
    """Digest of everything a result depends on in the data: cases, their bytes, who trains; and the digest of each case.

    `source` is as for `case_digests`.
    """
    cases = case_digests(dataset, (*split.train, *split.test), source)
    table = {"cases": cases, "train": split.train, "test": split.test, "classes": dataset.classes}
    regions = _regions(dataset)
    return digest.of_json(table | ({"regions": regions} if regions else {})), cases


def _regions(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    found = regions_of(dataset)
    for name, labels in found.items():
        if not labels or not all(0 < label < len(dataset.classes) for label in labels) or len(set(labels)) < len(labels):
            raise DataError(
                f"{dataset.name}: region {name!r} is of labels {list(labels)}; labels are 1 to {len(dataset.classes) - 1}, "
                "each once"
            )
    return found


def prepare(
    dataset: Dataset, split: Split, settings: Preprocess, progress: Progress | None = None, source: str | None = None
) -> Prepared:
    """Preprocesses what the cache lacks. `source` is as for `case_digests`.

    Raises:
        DataError: a case is unusable, or one examination is on both sides of the split; names the cases.
    """
    progress = progress or NoProgress()
    whole, cases = data_digest(dataset, split, source)
    # Numbers of every channel are asked of the scans by one rule alone; all other scans are as they were cached before it was.
    every = settings.intensity == "percentile" and len(dataset.channels) > 1
    scans = _scans(dataset, split.train, cases, "scan-2" if every else "scan-1", progress)
    parameters = resolve_parameters(settings, dataset.modality, scans, dataset.channels)
    digests = parameters.digest()
    keys = {case_id: digest.of_json([value, digests])[:32] for case_id, value in cases.items()}
    missing = [case_id for case_id, key in keys.items() if _noticed(key) is None]
    if missing:
        progress.start(f"preprocessing {dataset.name}", len(missing))
    for done, case_id in enumerate(missing, start=1):
        _store(dataset.load(case_id), keys[case_id], parameters)
        progress.advance(done, {})
    remarks = tuple(_remarks(dataset, split, keys))
    patients = {case_id: group_of(dataset, case_id) for case_id in split.test}
    channels = len(dataset.channels)
    return Prepared(dataset.name, dataset.classes, channels, split, parameters, whole, keys, _regions(dataset), patients, remarks)


@dataclass(frozen=True)
class _Noticed:
    """What is kept of a case beside its preprocessed volume."""

    content: Content
    remarks: tuple[Remark, ...]


def _noticed(key: str) -> _Noticed | None:
    """What was noticed when a volume was made; None where the cache lacks it. One that an earlier version made is removed."""
    item = cache.read_item("volumes", key)
    if item is None:
        return None
    kept = item.meta.get(_NOTICED)
    if kept is None:
        cache.discard(item.folder)
        return None
    content = kept["content"]
    remarks = tuple(Remark(**remark) for remark in kept["remarks"])
    return _Noticed(Content(content["voxels"], tuple(content["shape"]), tuple(content["edges"])), remarks)


def _remarks(dataset: Dataset, split: Split, keys: Mapping[str, str]) -> list[str]:
    """What should be known of the data of a split.

    Args:
        dataset: whose tables may have been remarked.
        split: of which all cases are in the cache.
        keys: the key of each case there.

    Raises:
        DataError: one examination is on both sides of the split.
    """
    contents: dict[str, Content] = {}
    remarks: dict[str, tuple[Remark, ...]] = {}
    for case_id, key in keys.items():
        noticed = _noticed(key)
        if noticed is not None:
            contents[case_id], remarks[case_id] = noticed.content, noticed.remarks
    copies = check_copies(dataset.name, contents, split)
    of_split = [split.caveat] if split.caveat else []
    return [*of_split, *remarks_of(dataset), *summarized(remarks), *copies]


def _store(case: Case, key: str, parameters: Parameters) -> None:
    made = preprocess(case, parameters)
    noticed = asdict(_Noticed(content_of(case), case.remarks))
    arrays: dict[str, NDArray[Any]] = {"image": made.image, "label": made.label, "reference": case.label}
    cache.write(
        "volumes",
        key,
        arrays,
        {"placement": made.placement.to_json(), "affine": case.affine.tolist(), "case": case.id, _NOTICED: noticed},
    )


def _scans(dataset: Dataset, train: Sequence[str], cases: dict[str, str], kind: str, progress: Progress) -> list[CaseScan]:
    """Scans of the training cases, cached each by its own bytes."""
    found: list[CaseScan] = []
    started = False
    for done, case_id in enumerate(train, start=1):
        key = digest.of_json([cases[case_id], kind])[:32]
        item = cache.read_item("scans", key)
        if item is None:
            if not started:
                progress.start(f"reading {dataset.name}", len(train))
                started = True
            result = scan(dataset.load(case_id))
            item = cache.write("scans", key, asdict(result), {})
            progress.advance(done, {})
        found.append(CaseScan(np.asarray(item.array("spacing_xyz")), np.asarray(item.array("foreground"))))
    return found
