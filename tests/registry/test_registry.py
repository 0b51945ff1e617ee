"""Names to objects: built-ins, plug-ins, files, and what is said about unknown ones."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from initbench import registry
from initbench.catalog import CATALOG, Kind
from initbench.errors import InitbenchError, UsageError
from initbench.spec import Spec, parse

KINDS: tuple[Kind, ...] = ("initializer", "backbone", "dataset", "regimen")


@pytest.fixture
def plug_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes entry points appear as if installed: (name, value, distribution)."""
    points: list[EntryPoint] = []

    def add(name: str, value: str, distribution: str | None) -> None:
        point = EntryPoint(name, value, "initbench.initializers")
        if distribution is not None:
            vars(point)["dist"] = SimpleNamespace(name=distribution, version="1.2")
        points.append(point)
        registry.forget()

    def installed(*, group: str) -> list[EntryPoint]:
        return [point for point in points if point.group == group]

    monkeypatch.setattr(registry, "entry_points", installed)
    yield add
    registry.forget()


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in CATALOG[kind]])
def test_every_built_in_loads(kind: Kind, name: str) -> None:
    component = registry.find(kind, Spec(name))
    assert callable(component.target)
    assert (component.origin, component.source_digest) == ("initbench", None)
    if kind == "initializer":
        info = component.target.info
        assert info.learned == CATALOG[kind][name].learned


def test_listing_imports_no_component() -> None:
    code = (
        "import sys; from initbench import registry\n"
        "for kind in ('initializer', 'backbone', 'dataset', 'regimen'): assert registry.listing(kind)\n"
        "heavy = {'torch', 'monai', 'nibabel', 'initbench.backbones.unetr', 'initbench.pretext.engine'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("initializer", "kaiming-normall", "did you mean kaiming-normal"),
        ("initializer", "lwl", "did you mean lwi"),
        ("backbone", "unetr++", "did you mean unetr"),
        ("backbone", "zzz", "known: unetr, unetrpp, swin-unetr"),
        ("dataset", "phantom", "did you mean phantom-lung"),
        ("regimen", "medcontex", "did you mean medcontext"),
    ],
)
def test_unknown_name_suggests_the_nearest(kind: Kind, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"unknown {kind} '.*{says}") as caught:
        registry.find(kind, Spec(name))
    assert f"initbench list {registry.LISTED[kind]}" in str(caught.value)


def test_parameters_over_defaults() -> None:
    def target(model: Any, ctx: Any, ratio: float = 0.4, *, needed: int) -> None: ...

    def component(text: str) -> registry.Component:
        return registry.Component(parse(text), "initializer", target, "test", None, {})

    assert component("a(needed=3)").params == {"ratio": 0.4, "needed": 3}
    with pytest.raises(UsageError, match=r"a takes no rato; its parameters: ratio=0.4"):
        component("a(rato=1, needed=1)").check()
    with pytest.raises(UsageError, match=r"a needs needed: write a\(needed=\.\.\.\)"):
        component("a").check()
    with pytest.raises(UsageError, match="takes no model"):
        component("a(model=1, needed=1)").check()
    assert str(registry.canonical(component("a(needed=3, ratio=0.4)"))) == "a(needed=3)"
    assert str(registry.canonical(component("a(needed=3, ratio=0.5)"))) == "a(needed=3, ratio=0.5)"


# --------------------------------------------------------------------------------------------------------------------
# Files


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my_init.py"
    path.write_text("def fn(model, ctx, *, gain=2.0):\n    return gain\n\ndef other(model, ctx): ...\n_hidden = print\n")
    return path


def get(text: str) -> registry.Component:
    return registry.find("initializer", parse(text))


def test_file_initializer(file: Path) -> None:
    component = get("./my_init.py:fn(gain=3.0)")
    assert component.target(None, None) == 2.0
    assert component.source_digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert component.origin == "file my_init.py"
    digest = component.source_digest[:8]
    assert str(registry.canonical(component)) == f"my_init.py:fn@{digest}(gain=3.0)"
    assert get(f"{file}:fn").source_digest == component.source_digest, "the path is not part of the identity"


def test_changed_file_is_another_initializer(file: Path) -> None:
    before = get("./my_init.py:fn")
    file.write_text(file.read_text().replace("2.0", "5.0"))
    after = get("./my_init.py:fn")
    assert (before.target(None, None), after.target(None, None)) == (2.0, 5.0)
    assert before.source_digest != after.source_digest
    assert registry.canonical(before) != registry.canonical(after)


def test_what_is_wrong_with_a_file(file: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no file {file.parent}/nowhere.py"):
        get("./nowhere.py:fn")
    with pytest.raises(UsageError, match=r"has no 'gn'; it has fn, other$"):
        get("./my_init.py:gn")
    for broken in ("1 / 0", "def fn(", "raise SystemError"):
        file.write_text(broken)
        before = set(sys.modules)
        with pytest.raises(InitbenchError, match="cannot be imported"):
            get("./my_init.py:fn")
        assert set(sys.modules) == before


# --------------------------------------------------------------------------------------------------------------------
# Plug-ins


def test_plug_in_is_found_and_keyed_by_its_source(plug_in: Callable[..., None]) -> None:
    plug_in("theirs", "textwrap:dedent", "lab-inits")
    component = get("theirs")
    import textwrap

    assert component.target is textwrap.dedent
    assert component.origin == "lab-inits 1.2"
    assert component.source_digest == hashlib.sha256(Path(textwrap.__file__).read_bytes()).hexdigest()
    row = registry.listing("initializer")[-1]
    assert (row.name, row.origin, row.summary) == ("theirs", "lab-inits 1.2", "textwrap:dedent")
    with pytest.raises(UsageError, match="did you mean theirs"):
        get("thers")


def test_clash_with_a_built_in_names_both_to_whoever_asks(plug_in: Callable[..., None]) -> None:
    plug_in("lwi", "textwrap:dedent", "lab-inits")
    says = r"'lwi' of lab-inits 1\.2 has the name of a built-in \(initbench\.initializers\.lwi:lwi\)"
    with pytest.raises(UsageError, match=says):
        get("lwi")
    assert [row.origin for row in registry.listing("initializer") if row.name == "lwi"] == ["initbench"]
    assert list(registry.problems("initializer")) == ["lwi"]
    assert callable(get("order").target)


def test_clash_of_two_plug_ins_names_both_to_whoever_asks(plug_in: Callable[..., None]) -> None:
    plug_in("theirs", "textwrap:dedent", "lab-inits")
    plug_in("theirs", "textwrap:fill", "other-inits")
    with pytest.raises(UsageError, match=r"offered by both lab-inits 1\.2 and other-inits 1\.2"):
        get("theirs")
    assert "theirs" not in registry.names("initializer")
    assert callable(get("order").target)


def test_the_same_entry_point_twice_is_no_clash(plug_in: Callable[..., None]) -> None:
    plug_in("theirs", "textwrap:dedent", "lab-inits")
    plug_in("theirs", "textwrap:dedent", "lab-inits")
    assert callable(get("theirs").target)


@pytest.mark.parametrize("value", ["textwrap.nowhere:fn", "textwrap:nothing"])
def test_plug_in_that_cannot_be_imported(plug_in: Callable[..., None], value: str) -> None:
    plug_in("theirs", value, None)
    with pytest.raises(InitbenchError, match=f"'theirs' of {value} cannot be imported"):
        get("theirs")


def test_a_file_of_the_same_size_and_time_is_another_file(tmp_path: Path) -> None:
    weights = tmp_path / "w.pt"
    component = registry.find("initializer", parse(f"checkpoint(path={str(weights)!r})"))
    found = []
    for content in (b"one", b"two"):
        weights.write_bytes(content)
        os.utime(weights, ns=(0, 0))
        found.append(registry.file_digests(component)["path"])
    assert found == [hashlib.sha256(b"one").hexdigest(), hashlib.sha256(b"two").hexdigest()]


@pytest.mark.parametrize("written", ["{1, 2}", "b'1'", "1j", "1e999", "(1, -1e999)"])
def test_a_parameter_that_no_id_can_hold_is_refused(written: str) -> None:
    component = registry.find("initializer", parse(f"lwi(mask_ratio={written})"))
    with pytest.raises(UsageError, match=r"mask_ratio=.*: a parameter is a number, a word"):
        component.check()


def test_a_component_that_works_on_another_one_says_how_that_is_written() -> None:
    with pytest.raises(UsageError, match=r"write shuffled\(NAME\)"):
        registry.find("initializer", parse("shuffled")).check()
    with pytest.raises(UsageError, match=r"its parameters: of, part$"):
        registry.find("initializer", parse("transfer(lwi, x=1)")).check()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "says"), [("NUMBER", "is int and no function"), ("partial", "does not say which parameters it takes")]
)
def test_what_a_file_names_has_to_be_a_function(tmp_path: Path, kind: Kind, name: str, says: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from functools import partial\nNUMBER = 5\n", "utf-8")
    with pytest.raises(UsageError, match=says):
        registry.find(kind, parse(f"{file}:{name}"))


def test_a_plug_in_has_to_be_a_function_with_a_source(plug_in: Callable[..., None]) -> None:
    plug_in("number", "textwrap:__name__", "textual")
    with pytest.raises(UsageError, match=r"of textual 1\.2 is str and no function"):
        registry.find("initializer", Spec("number"))
    plug_in("builtin", "math:gcd", "mathematical")
    with pytest.raises(InitbenchError, match="no source file"):
        registry.find("initializer", Spec("builtin"))


def test_a_partial_and_a_callable_object_are_known_by_the_file_they_were_written_in(
    tmp_path: Path, plug_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
from functools import partial
def scheme(model, ctx, /, *, std=1.0): ...
narrow = partial(scheme, std=0.1)
class Scheme:
    def __call__(self, model, ctx, /, *, std=1.0): ...
scheme_object = Scheme()
"""
    (tmp_path / "schemes_of_a_plugin.py").write_text(text, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("scheme", "narrow", "scheme_object"):
        plug_in(name, f"schemes_of_a_plugin:{name}", "schemes")
        found = registry.find("initializer", Spec(name))
        assert found.source_digest == hashlib.sha256(text.encode()).hexdigest()
        assert set(found.takes) == {"std"}
