"""Who trains and who is reported."""

from __future__ import annotations

import pytest

from initbench.datasets.splits import automatic, published, resolve_split
from initbench.errors import DataError
from initbench.protocols import Split
from tests.listed import Listed

LUNG = published("lung")
assert LUNG is not None
SPLIT = Split("theirs", ("a", "b", "c"), ("d", "e"))


def test_automatic_split_by_hand() -> None:
    # sha256 in hex starts with: a ca97, b 3e23, c 2e7d, d 18ac, e 3f79, so the order is d c b e a; a fifth of 5 is 1.
    assert automatic(["a", "b", "c", "d", "e"]) == Split("auto", ("a", "b", "c", "e"), ("d",))
    # f 252f, g cd0a, h aaa9, i de7d, j 189f: d (18ac) comes after j (189f), and a fifth of 10 is 2.
    assert automatic(list("jihgfedcba")).test == ("d", "j")
    assert automatic(["a", "b"]) == Split("auto", ("a",), ("b",))


def test_automatic_split_is_a_fifth_and_loses_nobody() -> None:
    for number in range(2, 200):
        ids = [f"case_{i}" for i in range(number)]
        split = automatic(ids)
        assert sorted(split.train + split.test) == sorted(ids)
        assert len(split.test) == max(1, number // 5)


@pytest.mark.parametrize("ids", [[], ["only"]])
def test_too_few_cases(ids: list[str]) -> None:
    with pytest.raises(DataError, match=rf"^{len(ids)} labelled case"):
        automatic(ids)


def test_published_lung_split() -> None:
    assert LUNG is not None
    assert (len(LUNG.train), len(LUNG.test)) == (50, 13)
    assert len(set(LUNG.train) | set(LUNG.test)) == 63
    assert list(LUNG.train) == sorted(LUNG.train)
    assert resolve_split(Listed(LUNG.train + LUNG.test, LUNG), None) == LUNG
    assert published("hippocampus") is None


def test_which_split_is_taken() -> None:
    ids = ("a", "b", "c", "d", "e")
    assert resolve_split(Listed(ids), None).name == "auto"
    assert resolve_split(Listed(ids, SPLIT), None) == SPLIT
    assert resolve_split(Listed(ids, SPLIT), "published") == SPLIT
    assert resolve_split(Listed(ids, SPLIT), "auto") == automatic(ids)
    with pytest.raises(DataError, match="no published split"):
        resolve_split(Listed(ids), "published")


def test_part_of_a_split_says_so() -> None:
    found = resolve_split(Listed(("a", "c", "e"), SPLIT), None)
    assert found == Split("theirs (3 of 5 cases)", ("a", "c"), ("e",), caveat=found.caveat)
    assert "only 3 of 5 cases are here (2 of 3 to train on, 1 of 2 reported)" in found.caveat
    assert resolve_split(Listed(("a", "b", "c", "d", "e"), SPLIT), None).caveat == ""


@pytest.mark.parametrize("ids", [("a", "b"), ("d", "e"), ()])
def test_one_empty_side_is_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="each side needs one"):
        resolve_split(Listed(ids, SPLIT), None)


def test_strange_ids_are_named() -> None:
    with pytest.raises(DataError, match=r"case\(s\) x, y are not in the published split theirs"):
        resolve_split(Listed(("a", "d", "y", "x"), SPLIT), None)
    with pytest.raises(DataError, match="s4 and 2 more"):
        resolve_split(Listed(("a", "d", *(f"s{i}" for i in range(7))), SPLIT), None)
    assert resolve_split(Listed(("a", "x"), SPLIT), "auto").name == "auto"
