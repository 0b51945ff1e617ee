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
    reader = _Reader(dataset, cases)
    # Numbers of every channel are asked of the scans by one rule alone; all other scans are as they were cached before it was.
    every = settings.intensity == "percentile" and len(dataset.channels) > 1
    scans = _scans(reader, split.train, "scan-2" if every else "scan-1", progress)
    parameters = resolve_parameters(settings, dataset.modality, scans, dataset.channels)
    digests = parameters.digest()
    keys = {case_id: digest.of_json([value, digests])[:32] for case_id, value in cases.items()}
    missing = [case_id for case_id, key in keys.items() if cache.read_item("volumes", key) is None]
    if missing:
        progress.start(f"preprocessing {dataset.name}", len(missing))
    for done, case_id in enumerate(missing, start=1):
        _store(reader.load(case_id), keys[case_id], parameters)
        progress.advance(done, {})
    patients = {case_id: group_of(dataset, case_id) for case_id in split.test}
    return Prepared(
        name=dataset.name,
        classes=dataset.classes,
        channels=len(dataset.channels),
        split=split,
        parameters=parameters,
        digest=whole,
        keys=keys,
        regions=_regions(dataset),
        patients=patients,
        remarks=tuple(_remarks(reader, split, progress)),
    )


@dataclass(frozen=True)
class _Noticed:
    """What is remembered of a case that was read."""

    content: Content
    remarks: tuple[Remark, ...]


class _Reader:
    """Reads cases, and remembers in the cache what was noticed, so that a case is read for that once."""

    def __init__(self, dataset: Dataset, digests: Mapping[str, str]) -> None:
        self.dataset = dataset
        self.digests = digests

    def load(self, case_id: str) -> Case:
        """Reads a case."""
        case = self.dataset.load(case_id)
        if cache.read_item("noticed", self._key(case_id)) is None:
            noticed = _Noticed(content_of(case), case.remarks)
            cache.write("noticed", self._key(case_id), {}, asdict(noticed))
        return case

    def knows(self, case_id: str) -> bool:
        """Whether it was read before."""
        return cache.read_item("noticed", self._key(case_id)) is not None

    def noticed(self, case_id: str) -> _Noticed:
        """What was noticed of a case, which is read where it was not yet."""
        item = cache.read_item("noticed", self._key(case_id))
        if item is None:
            case = self.load(case_id)
            return _Noticed(content_of(case), case.remarks)
        content, remarks = item.meta["content"], item.meta["remarks"]
        shape, edges = tuple(content["shape"]), tuple(content["edges"])
        return _Noticed(Content(content["voxels"], shape, edges), tuple(Remark(**remark) for remark in remarks))

    def _key(self, case_id: str) -> str:
        return digest.of_json([self.digests[case_id], "noticed-1"])[:32]


def _remarks(reader: _Reader, split: Split, progress: Progress) -> list[str]:
    """What should be known of the data of a split.

    Raises:
        DataError: one examination is on both sides of it.
    """
    case_ids = (*split.train, *split.test)
    # An earlier version kept the volumes of these cases, and nothing of what it noticed.
    unread = [case_id for case_id in case_ids if not reader.knows(case_id)]
    if unread:
        progress.start(f"reading {reader.dataset.name}", len(unread))
    for done, case_id in enumerate(unread, start=1):
        reader.load(case_id)
        progress.advance(done, {})
    noticed = {case_id: reader.noticed(case_id) for case_id in case_ids}
    copies = check_copies(reader.dataset.name, {case_id: item.content for case_id, item in noticed.items()}, split)
    of_cases = summarized({case_id: item.remarks for case_id, item in noticed.items()})
    of_split = [split.caveat] if split.caveat else []
    return [*of_split, *remarks_of(reader.dataset), *of_cases, *copies]


def _store(case: Case, key: str, parameters: Parameters) -> None:
    made = preprocess(case, parameters)
    arrays: dict[str, NDArray[Any]] = {"image": made.image, "label": made.label, "reference": case.label}
    cache.write("volumes", key, arrays, {"placement": made.placement.to_json(), "affine": case.affine.tolist(), "case": case.id})


def _scans(reader: _Reader, train: Sequence[str], kind: str, progress: Progress) -> list[CaseScan]:
    """Scans of the training cases, cached each by its own bytes."""
    found: list[CaseScan] = []
    started = False
    for done, case_id in enumerate(train, start=1):
        key = digest.of_json([reader.digests[case_id], kind])[:32]
        item = cache.read_item("scans", key)
        if item is None:
            if not started:
                progress.start(f"reading {reader.dataset.name}", len(train))
                started = True
            result = scan(reader.load(case_id))
            item = cache.write("scans", key, asdict(result), {})
            progress.advance(done, {})
        found.append(CaseScan(np.asarray(item.array("spacing_xyz")), np.asarray(item.array("foreground"))))
    return found
