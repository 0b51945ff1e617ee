"""From a data set to cached volumes that training and evaluation read, and check while they read."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from initbench import cache, claims, digest
from initbench.datasets.duplicates import Content, check_copies, content_of
from initbench.datasets.remarks import summarized
from initbench.errors import DataError
from initbench.preprocessing.parameters import CaseScan, Parameters, resolve_parameters, scan
from initbench.preprocessing.preprocess import Placement, preprocess
from initbench.protocols import (
    Case,
    Dataset,
    Grid,
    NoProgress,
    Progress,
    Remark,
    Split,
    copies_are_meant,
    group_of,
    regions_of,
    remarks_of,
)
from initbench.recipes.settings import Preprocess

_CLAIMS = ".claims"  # in the cache: who prepares what
_NOTICED = "noticed"  # in the table of a cached volume
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedCase:
    """One case of the cache. Each array is read, and its checksums checked, when it is first asked for.

    Attributes:
        read: gives the array ``image``, ``label`` or ``reference``.
        affine: of the native grid.
    """

    id: str
    read: Callable[[str], NDArray[Any]] = field(repr=False)
    affine: NDArray[np.float64]
    placement: Placement

    @functools.cached_property
    def image(self) -> NDArray[np.float32]:
        """The preprocessed image ``(C, D, H, W)``."""
        return self.read("image")

    @functools.cached_property
    def label(self) -> NDArray[np.uint8]:
        """The preprocessed label ``(D, H, W)``."""
        return self.read("label")

    @functools.cached_property
    def reference(self) -> NDArray[np.uint8]:
        """The label on the native grid."""
        return self.read("reference")


@dataclass(frozen=True)
class Prepared:
    """A data set ready for the device.

    Attributes:
        classes: what networks tell apart, the background first.
        regions: label numbers by region, where unions of labels are reported in place of the classes.
        patients: the patient of each reported case. They decide no number of a run, so no digest holds them.
        store: preprocesses a case into the cache. It makes again what the cache lost.
        remarks: what should be known before hours are spent: of the split, the tables, the headers, of copies.
    """

    name: str
    classes: tuple[str, ...]
    split: Split
    parameters: Parameters
    digest: str
    keys: dict[str, str]
    store: Callable[[str], None] = field(repr=False, compare=False)
    regions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @property
    def reported(self) -> tuple[str, ...]:
        """What is reported, the background first: the regions, else the classes."""
        if not self.regions:
            return self.classes
        return (self.classes[0], *self.regions)

    @property
    def first(self) -> int:
        """Number of the first one in tables. Regions are numbered behind the labels: pictures show labels."""
        if not self.regions:
            return 1
        return len(self.classes)

    @functools.cached_property
    def grids(self) -> tuple[Grid, ...]:
        """Size (D, H, W) of each training volume in voxels."""
        return tuple(self.case(case_id).placement.shape for case_id in self.split.train)

    @property
    def depths(self) -> tuple[int, ...]:
        """Slices of each training volume."""
        return tuple(depth for depth, _, _ in self.grids)

    def case(self, case_id: str) -> PreparedCase:
        """Reads one case.

        Raises:
            DataError: the cache lost it since it was prepared, and its files are no longer what they were.
        """
        item = self._item(case_id)
        placement = Placement.from_json(item.meta["placement"])
        affine = np.array(item.meta["affine"], np.float64)
        return PreparedCase(case_id, functools.partial(self._array, case_id), affine, placement)

    def mapped(self, case_id: str, name: str) -> NDArray[Any]:
        """Maps an array of a case as it lies in its file; see `cache.Item.mapped`. Whoever read it before has had it checked."""
        return self._item(case_id).mapped(name)

    def mend(self) -> list[str]:
        """Reads every cached array and makes again what is damaged, which a line on standard error says.

        Returns:
            The cases that were made again.
        """
        mended = []
        for case_id in self.keys:
            try:
                self._item(case_id).check()
            except cache.DamagedError as error:
                self._make_again(case_id, error)
                self._item(case_id).check()
                mended.append(case_id)
        return mended

    def _array(self, case_id: str, name: str) -> NDArray[Any]:
        try:
            return self._item(case_id).array(name)
        except cache.DamagedError as error:
            self._make_again(case_id, error)
            return self._item(case_id).array(name)

    def _item(self, case_id: str) -> cache.Item:
        item = cache.read_item("volumes", self.keys[case_id])
        if item is None:
            self._make_again(case_id, "it vanished from the cache, or is not whole there")
            item = cache.read_item("volumes", self.keys[case_id])
        if item is None:
            raise DataError(
                f"case {case_id} vanishes from the cache {cache.root()}: another program removes files "
                "there; stop it, or choose another folder (INITBENCH_CACHE)"
            )
        return item

    def _make_again(self, case_id: str, reason: object) -> None:
        _log.warning("case %s: %s; it is made again from its files", case_id, reason)
        self.store(case_id)


def case_digests(dataset: Dataset, case_ids: Sequence[str], source: str | None = None) -> dict[str, str]:
    """Digests what tells one content of a case from another, by case: its bytes, and what its reader makes of them.

    Args:
        dataset: whose cases they are.
        case_ids: of them.
        source: digest of the reader's code where that is a plug-in; built-in readers change voxels under another revision alone.
    """
    return {case_id: _with_reader(dataset.digest(case_id), source) for case_id in case_ids}


def _with_reader(content: str, source: str | None) -> str:
    """Returns the digest of a case's bytes and of the plug-in's code that reads them."""
    if source is None:
        return content
    return digest.of_json([content, source])


def data_digest(dataset: Dataset, split: Split, source: str | None = None) -> tuple[str, dict[str, str]]:
    """Digests everything a result depends on in the data: cases, their bytes, who trains. Returns the digest of each case, too.

    `source` is as for `case_digests`.
    """
    cases = case_digests(dataset, (*split.train, *split.test), source)
    table: dict[str, Any] = {"cases": cases, "train": split.train, "test": split.test, "classes": dataset.classes}
    regions = _regions(dataset)
    if regions:
        table["regions"] = regions
    return digest.of_json(table), cases


def _regions(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    found = regions_of(dataset)
    for name, labels in found.items():
        known = range(1, len(dataset.classes))
        if not labels or not set(labels).issubset(known) or len(set(labels)) < len(labels):
            raise DataError(
                f"{dataset.name}: region {name!r} is of labels {list(labels)}; labels are 1 to {len(dataset.classes) - 1}, "
                "each once"
            )
    return found


def prepare(
    dataset: Dataset,
    split: Split,
    settings: Preprocess,
    progress: Progress | None = None,
    source: str | None = None,
    before_reading: Callable[[], None] = lambda: None,
) -> Prepared:
    """Preprocesses what the cache lacks. Of several processes that prepare the same data, the others wait for the first.

    Args:
        dataset: of any layout.
        split: its cases are prepared.
        settings: of the recipe.
        progress: told of what is done.
        source: as for `case_digests`.
        before_reading: called before cases are read, at most twice, and not where the cache holds all of them. It may raise.

    Raises:
        DataError: a case is unusable, or one examination is on both sides of the split; names the cases.
        InterruptedRunError: somebody asked this process to stop while it waited for another one.
    """
    progress = progress or NoProgress()
    cache.remove_abandoned()
    with _Alone(dataset.name, settings, progress, before_reading) as alone:
        return _prepare(dataset, split, settings, progress, source, alone.begin)


class _Alone(contextlib.ExitStack):
    """Lets this process alone prepare a data set, from the first case that has to be read until the block ends.

    The claim lies beside the prepared data, so all machines that share these see it.
    """

    def __init__(self, name: str, settings: Preprocess, progress: Progress, before_reading: Callable[[], None]) -> None:
        super().__init__()
        key = digest.of_json([name, settings.model_dump(mode="json")])[:32]
        self._place = cache.root() / _CLAIMS / key
        self._before_reading = before_reading
        self._tell = functools.partial(progress.start, f"waiting for another process that prepares {name}", 1)
        self._is_alone = False

    def begin(self) -> None:
        """Asks whether cases may be read, and then waits until no other process prepares the same data."""
        self._before_reading()
        if not self._is_alone:
            self.enter_context(claims.awaited(self._place, self._tell))
            self._is_alone = True


def _prepare(
    dataset: Dataset,
    split: Split,
    settings: Preprocess,
    progress: Progress,
    source: str | None,
    begin: Callable[[], None],
) -> Prepared:
    """Does what `prepare` does. What is missing is looked for again after `begin`, as another process may have made it."""
    whole, cases = data_digest(dataset, split, source)
    # Numbers of every channel are asked of the scans by one rule alone; all other scans are as they were cached before it was.
    every = settings.intensity == "percentile" and len(dataset.channels) > 1
    kind = "scan-1"
    if every:
        kind = "scan-2"
    scans = _scans(dataset, split.train, cases, kind, progress=progress, source=source, begin=begin)
    parameters = resolve_parameters(settings, dataset.modality, scans, dataset.channels)
    digests = parameters.digest()
    keys: dict[str, str] = {}
    missing = []
    for case_id, value in cases.items():
        keys[case_id] = digest.of_json([value, digests])[:32]
        if _noticed(keys[case_id]) is None:
            missing.append(case_id)
    store = functools.partial(_store, dataset, cases=cases, keys=keys, parameters=parameters, source=source)
    if missing:
        begin()
        progress.start(f"preprocessing {dataset.name}", len(missing))
    for done, case_id in enumerate(missing, start=1):
        if _noticed(keys[case_id]) is None:
            store(case_id)
        progress.advance(done, {})
    remarks = tuple(_remarks(dataset, split, keys))
    patients = {case_id: group_of(dataset, case_id) for case_id in split.test}
    regions = _regions(dataset)
    return Prepared(dataset.name, dataset.classes, split, parameters, whole, keys, store, regions, patients, remarks)


@dataclass(frozen=True)
class _Noticed:
    """What is kept of a case beside its preprocessed volume."""

    content: Content
    remarks: tuple[Remark, ...]


def _noticed(key: str) -> _Noticed | None:
    """Returns what was noticed when a volume was made; None where the cache lacks it. It removes one of an earlier version."""
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
    """Lists what should be known of the data of a split.

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
    found = [*remarks_of(dataset), *summarized(remarks)]
    if not copies_are_meant(dataset):
        found += check_copies(dataset.name, contents, split)
    if split.caveat:
        found.insert(0, split.caveat)
    return found


def _store(
    dataset: Dataset,
    case_id: str,
    *,
    cases: dict[str, str],
    keys: dict[str, str],
    parameters: Parameters,
    source: str | None,
) -> None:
    """Preprocesses a case into the cache.

    Args:
        dataset: whose case it is.
        case_id: names it.
        cases: digests by case.
        keys: keys of the cache by case.
        parameters: the numbers of preprocessing.
        source: as for `case_digests`.

    Raises:
        DataError: the case is unusable, or its files are no longer what they were when `cases` was made.
    """
    case, content = load_known(dataset, case_id, cases[case_id], source)
    made = preprocess(case, parameters)
    arrays: dict[str, NDArray[Any]] = {"image": made.image, "label": made.label, "reference": case.label}
    values = {
        "placement": made.placement.to_json(),
        "affine": case.affine.tolist(),
        "case": case.id,
        cache.CONTENT: content,
        _NOTICED: asdict(_Noticed(content_of(case), case.remarks)),
    }
    cache.write("volumes", keys[case_id], arrays, values)


def load_known(dataset: Dataset, case_id: str, expected: str, source: str | None = None) -> tuple[Case, str]:
    """Reads a case whose digest was taken before, and the digest of its bytes.

    Args:
        dataset: whose case it is.
        case_id: names it.
        expected: its digest as `case_digests` gave it.
        source: as for `case_digests`.

    Raises:
        DataError: it is unusable, or its files are no longer those that the digest was taken of.
    """
    case = dataset.load(case_id)
    content = dataset.digest(case_id)
    if _with_reader(content, source) != expected:
        raise DataError(f"case {case_id}: its files changed since this command began; run it again when they are complete")
    return case, content


def _scans(
    dataset: Dataset,
    train: Sequence[str],
    cases: dict[str, str],
    kind: str,
    *,
    progress: Progress,
    source: str | None,
    begin: Callable[[], None],
) -> list[CaseScan]:
    """Scans of the training cases, cached each by its own bytes."""
    found: list[CaseScan] = []
    started = False
    for done, case_id in enumerate(train, start=1):
        key = digest.of_json([cases[case_id], kind])[:32]
        result = _cached_scan(key)
        if result is None:
            if not started:
                begin()
                progress.start(f"reading {dataset.name}", len(train))
                started = True
                result = _cached_scan(key)
            if result is None:
                case, content = load_known(dataset, case_id, cases[case_id], source)
                result = scan(case)
                cache.write("scans", key, asdict(result), {cache.CONTENT: content})
            progress.advance(done, {})
        found.append(result)
    return found


def _cached_scan(key: str) -> CaseScan | None:
    """Reads a scan; None where the cache has none. A damaged one is said in a line on standard error, and removed."""
    item = cache.read_item("scans", key)
    if item is None:
        return None
    try:
        return CaseScan(item.array("spacing_xyz"), item.array("foreground"))
    except cache.DamagedError as error:
        _log.warning("%s; it is made again from the case's files", error)
        return None
