"""A component string is read once on its way through a run, its component loaded once, and the run resolved once."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from torch import ones

from initbench import registry
from initbench import spec as specs
from initbench.cli.app import main
from initbench.errors import UsageError
from initbench.harness import cell as cells
from initbench.harness.request import RunRequest, as_json, from_json, read_components
from initbench.spec import Spec, parse
from initbench.studies.sweep import cross_requests
from tests.folders import TESTS
from tests.msd_factory import make_msd

LIGHT = f"{TESTS / 'light_backbone.py'}:light"
OPTIONS = ("--size", "tiny", "--budget", "smoke", "--device", "cpu", "--precision", "float32")
SMALL = (
    "patch.size=8,16,16", "patch.batch=2", "pretext.batch=2", "pretext.mask_patch=4", "steps.smoke=4",
    "preprocess.spacing=native", "preprocess.crop=False",
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_msd(tmp_path_factory.mktemp("data") / "Task90_Noise", cases=6, classes=3)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function was called, under whatever name a module imported it."""
    found: Counter[str] = Counter()

    def count(module: Any, name: str, label: Callable[..., str]) -> None:
        real = getattr(module, name)

        @wraps(real)
        def counted(*arguments: Any, **options: Any) -> Any:
            found[label(*arguments)] += 1
            return real(*arguments, **options)

        for other in list(sys.modules.values()):
            if getattr(other, "__name__", "").startswith("initbench") and vars(other).get(name) is real:
                monkeypatch.setattr(other, name, counted)

    registry.forget()
    count(specs, "parse", lambda text: f"parse {text}")
    count(registry, "get", lambda kind, spec: f"get {spec}")
    count(registry, "listing", lambda kind: "listing")
    count(cells, "resolve_cell", lambda *arguments: "resolve")
    return found


def run(data: Path, out: Path, init: str, *more: str) -> int:
    settings = [part for text in SMALL for part in ("--set", text)]
    with pytest.raises(SystemExit) as ended:
        main(["run", "--init", init, "--backbone", LIGHT, "--dataset", str(data), "--out", str(out), *OPTIONS, *settings, *more])
    return int(ended.value.code or 0)


@pytest.mark.parametrize("init", ["lwi", "shuffled(lwi)"])
def test_one_run_reads_and_loads_each_component_once_and_resolves_once(
    data: Path, tmp_path: Path, calls: Counter[str], init: str
) -> None:
    assert run(data, tmp_path, init) == 0
    asked = ["lwi", init, LIGHT, "plain", "local"]
    wanted = {f"parse {text}" for text in asked} | {f"get {text}" for text in asked}
    assert calls == Counter(dict.fromkeys([*wanted, "resolve"], 1))


def test_the_seeds_of_a_cell_are_resolved_once(data: Path, tmp_path: Path, calls: Counter[str]) -> None:
    assert run(data, tmp_path, "default,kaiming-normal", "--seeds", "2", "--no-placebo") == 0
    assert calls["resolve"] == 2
    assert len(list(tmp_path.glob("*/*/*/seed-*/record.json"))) == 4


def test_a_cell_is_resolved_again_when_a_file_of_its_init_changed(data: Path, tmp_path: Path) -> None:
    weights, known = tmp_path / "w.safetensors", cells.Cells()
    save_file({"out.bias": ones(4)}, weights)
    [request] = cross_requests(
        f"checkpoint(path={str(weights)!r})", LIGHT, str(data), size="tiny", budget="smoke", device="cpu", assignments=SMALL
    )
    first = known.resolve(request)
    assert known.resolve(replace(request, seed=3)).id == first.id
    save_file({"out.bias": ones(5)}, weights)
    assert known.resolve(request).id != first.id


def test_cells_stay_in_their_process(data: Path) -> None:
    known = cells.Cells()
    [request] = cross_requests("default", LIGHT, str(data), size="tiny", budget="smoke", device="cpu", assignments=SMALL)
    known.resolve(request)
    travelled = pickle.loads(pickle.dumps(known))  # noqa: S301
    assert known._known
    assert travelled._known == {}


def test_a_request_travels_and_imports_no_torch() -> None:
    request = RunRequest.of("shuffled(lwi(mask_ratio=0.6))", LIGHT, "/some where (2)/Task90_Noise", 1)
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301
    code = (
        "import sys; from initbench.harness.request import RunRequest\n"
        "RunRequest.of('lwi', 'unetr', 'lung', 0)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_regimen_that_does_not_exist_is_refused(data: Path) -> None:
    request = RunRequest.of("default", LIGHT, str(data), 0, regimen="strange", size="tiny", budget="smoke", device="cpu")
    with pytest.raises(UsageError, match="unknown regimen 'strange': known: plain, medcontext"):
        cells.resolve_cell(request)


def test_specs_that_differ_in_type_alone_are_two_components() -> None:
    asked = read_components("initializer", "lwi(a=1), lwi(a=1.0), lwi(a=True), lwi( a = 1 ), lwi()")
    assert asked == [parse("lwi(a=1)"), parse("lwi(a=1.0)"), parse("lwi(a=True)"), Spec("lwi")]
    assert parse("lwi(a=1)") != parse("lwi(a=True)")
    assert len({parse("lwi(a=[1])"), parse("lwi(a=[1])"), parse("lwi(a=(1,))")}) == 2


def test_what_was_read_is_not_read_again(calls: Counter[str]) -> None:
    read = [Spec("lwi"), Spec("default")]
    assert read_components("initializer", read) == read
    assert not calls


@pytest.mark.parametrize("folder", ["plain", "with, comma", "two (2)", "open(", "a'b", "[x"])
@pytest.mark.parametrize("outer", ["{}", "transfer({}, part=encoder)"])
def test_a_request_with_files_is_read_back_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, outer: str
) -> None:
    """Weights are found again whatever their folder is called; code too, where a component string can hold its path."""
    here = tmp_path / folder
    here.mkdir()
    (here / "w.pt").touch()
    (here / "net.py").write_text("def one(model, ctx):\n    pass\n")
    monkeypatch.chdir(here)
    for text, place in (("checkpoint(path=w.pt)", f"path={str(here / 'w.pt')!r}"), ("./net.py:one", f"{here / 'net.py'}:one")):
        request = RunRequest.of(outer.format(text), "unetr", "phantom-lung", 0)
        written = as_json(request)
        assert str(from_json(written).init) == written["init"]
        is_writable = text.startswith("checkpoint") or not set("()[],") & set(folder)
        assert (place in written["init"]) is is_writable
