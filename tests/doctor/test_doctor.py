"""What `initbench doctor` says of machines and installations that are fit, and of broken ones."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from initbench import registry
from initbench.cli.app import main
from initbench.doctor import machine, training
from initbench.doctor.examination import SECTIONS, Examination, examine
from initbench.doctor.findings import Finding, worst
from initbench.doctor.training import FASTER, _speed, determinism
from initbench.harness import hardware
from tests.msd_factory import make_msd
from tests.runs_factory import LIGHT, LIGHT_FILE

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps on small patches; what is planted shows in the first of them."""
    monkeypatch.setattr(training, "STEPS", 4)
    monkeypatch.setattr(training, "REPEATS", 1)
    monkeypatch.setattr(training, "STEPS_PER_REPEAT", 1)
    monkeypatch.setattr(training, "USUAL", training.SMALL)


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


# --- the whole --------------------------------------------------------------------------------------------------------


def doctor(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--backbone", LIGHT, "--device", "cpu", *arguments])
    code = ended.value.code
    return (code if isinstance(code, int) else 0), capsys.readouterr().out


def test_json_holds_every_section(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out = doctor(capsys, "--json", "--out", str(tmp_path / "runs"))
    table = json.loads(out)
    assert code == 0
    assert set(table) == {"state", "seconds", "findings"}
    assert table["state"] in ("ok", "warning")
    assert all(set(row) == {"section", "name", "state", "detail"} for row in table["findings"])
    assert [*dict.fromkeys(row["section"] for row in table["findings"])] == [*SECTIONS]
    rows = {row["name"]: row for row in table["findings"]}
    assert {"python", "initbench", "packages", "cuda"} <= set(rows)
    assert {"cpu", "threads", "cache", "out", "phantom-lung", "lung", "hippocampus", "built-in", "weights", "bf16"} <= set(rows)
    assert f"torch {torch.__version__.partition('+')[0]}, " in rows["packages"]["detail"]
    assert "twice the same bits" in rows["weights"]["detail"]
    assert "--precision auto chooses" in rows["bf16"]["detail"]
    assert "GiB free" in rows["cpu"]["detail"]
    assert not (tmp_path / "runs").exists(), "it leaves nothing"


def test_the_table_and_the_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out = doctor(capsys, "--out", str(tmp_path / "file" / "runs"))
    assert code == 1
    assert "cannot be written" in out
    assert "1 problem, in" in out
    for section in SECTIONS:
        assert section in out


def test_each_check_is_shown_as_it_is_made_and_all_is_well_in_few_lines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "environment", lambda *_: hardware.environment(CPU, 1) | {"git": None})
    monkeypatch.setattr(training, "FASTER", 100)  # on a busy machine either precision may win
    real, before_last = training._convolution, []

    def look(device: torch.device, threads: int) -> Finding:
        before_last.append(capsys.readouterr().out)
        return real(device, threads)

    monkeypatch.setattr(training, "_convolution", look)
    code, last = doctor(capsys, "--out", str(tmp_path / "runs"))
    assert code == 0
    [first] = before_last
    assert "twice the same bits" in " ".join(first.split())
    assert "precision bf16" in first
    assert "0 warning, 0 problem" in last
    out = first + last
    assert len(out.splitlines()) <= 30
    assert re.search(r"data not here +absent +lung, hippocampus", out)
    assert "was not found" not in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--backbone", "untr"], "did you mean unetr"), (["--device", "tpu"], "--device is auto, cpu, cuda or cuda:i")],
)
def test_wrong_requests_are_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_what_a_section_raises_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "environment", lambda *_: 1 / 0)
    [finding] = examine("versions", Examination(device="cpu"))
    assert (finding.state, finding.detail) == ("problem", "stopped with ZeroDivisionError: division by zero")


def test_the_worst_counts() -> None:
    lines = [Finding("a", "b", state, "") for state in ("ok", "problem", "warning")]
    assert [worst(lines), worst([lines[0], lines[2]]), worst([])] == ["problem", "warning", "ok"]


# --- determinism ------------------------------------------------------------------------------------------------------


def planted(folder: Path, line: str, head: str = "") -> str:
    """The light backbone with a line at the end of its forward pass, where `out` is its output."""
    text = LIGHT_FILE.read_text("utf-8")
    last = "        return self.out(torch.relu(self.norm(self.full(joined) + self.skip(x))))\n"
    assert last in text
    text = text.replace(last, last.replace("return", "out =") + f"        {line}\n        return out\n")
    file = folder / "planted.py"
    file.write_text(text.replace("import torch\n", f"import random, time\nimport torch\n{head}\n", 1))
    return f"{file}:light"


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("out = out * (1 + random.random())", ""),  # a sum with all logits would hardly move a softmax
        ("out = out * (1 + 1e-10 * (time.perf_counter_ns() % 10**10))", ""),
        ("out = out + 1e-3 * torch.randn(out.shape, generator=noise)", "noise = torch.Generator()\n"),
    ],
    ids=["global generator", "time", "own generator"],
)
def test_a_network_that_differs_from_run_to_run_is_named(tmp_path: Path, line: str, head: str) -> None:
    [finding] = determinism(planted(tmp_path, line, head), CPU, 1)
    assert finding.state == "problem"
    assert "at step 0 in the forward pass, " in finding.detail
    assert " tensors " in finding.detail
    assert "Look for random numbers" in finding.detail


def test_a_loss_that_differs_is_named_before_any_weight_does() -> None:
    same: list[Mapping[str, str]] = [{"stem.weight": "a"}, {"stem.weight": "b"}]
    finding = training._compared("light", training._Trail(same, [float("nan")]), training._Trail(same, [float("nan")]))
    assert finding.state == "ok"
    finding = training._compared("light", training._Trail(same, [1.0]), training._Trail(same, [2.0]))
    assert "at step 0 in the forward pass, 0 of 1 tensors differ" in finding.detail


def test_a_gradient_that_differs_is_told_from_an_output_that_does(tmp_path: Path) -> None:
    line = "out.register_hook(lambda g: g * (1 + random.random())) if out.requires_grad else None"
    [finding] = determinism(planted(tmp_path, line), CPU, 1)
    assert "at step 0 in the backward pass" in finding.detail


def test_a_network_that_is_constructed_differently_is_named(tmp_path: Path) -> None:
    backbone = planted(tmp_path, "pass")
    file = Path(backbone.partition(":")[0])
    file.write_text(
        file.read_text().replace("        self.out = ", "        self.norm.weight.data += random.random()\n        self.out = ")
    )
    [finding] = determinism(backbone, CPU, 1)
    assert "before the first step (construction), norm.weight is the first of 1 of" in finding.detail


def test_an_operator_without_a_deterministic_kernel_is_named(tmp_path: Path) -> None:
    line = "out = out.clone(); out.detach().put_(torch.tensor([0]), torch.zeros(1, dtype=out.dtype))"
    [finding] = determinism(planted(tmp_path, line), CPU, 1)
    assert finding.state == "problem"
    assert ": put_ has no deterministic kernel on cpu" in finding.detail


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    lines = determinism(planted(tmp_path, "out = out * float('inf')"), CPU, 1)
    assert by_name(lines)["loss"].state == "problem"
    assert "not finite at step 0" in by_name(lines)["loss"].detail


def test_the_default_network_and_what_it_leaves_alone() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.get_rng_state()
    [finding] = determinism("unetr", CPU, 1)
    assert finding.state == "ok"
    after = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "chosen", "state", "says"),
    [
        (1.5, "bf16", "ok", "auto chooses bf16, as it should"),
        (0.5, "float32", "ok", "auto chooses float32, as it should"),
        (1.0, "bf16", "ok", "as it should"),
        (FASTER - 0.01, "float32", "ok", "as it should"),
        (0.5, "bf16", "warning", "use --precision float32"),
        (1.5, "float32", "warning", "use --precision bf16"),
    ],
)
def test_what_auto_should_choose(ratio: float, chosen: Any, state: str, says: str) -> None:
    finding = _speed("a network", ratio, chosen)
    assert finding.state == state
    assert says in finding.detail
    assert f"= {ratio:.2f}; " in finding.detail


# --- machine ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "state"),
    [(2**40, "ok"), (6 * 2**30, "ok"), (4 * 2**30, "warning"), (2**20, "problem")],
    ids=["much", "some", "little", "none"],
)
def test_a_disk_that_is_nearly_full_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, state: str) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    found = by_name(machine.folders(tmp_path))
    assert {found["out"].state, found["cache"].state} == {state}
    assert ("free space" in found["out"].detail) == (state != "ok")


def test_a_read_only_folder_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(machine.tempfile, "TemporaryFile", refuse)
    found = by_name(machine.folders(tmp_path / "runs"))
    assert found["out"].state == found["cache"].state == "problem"
    assert (
        f"{tmp_path / 'runs'} cannot be written (Read-only file system); choose another folder with --out" in found["out"].detail
    )
    assert "set INITBENCH_CACHE" in found["cache"].detail


def test_what_the_cache_takes_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()
    with (tmp_path / "volumes" / "a.npy").open("wb") as file:
        file.truncate(3 * 2**30)
    monkeypatch.setenv("INITBENCH_CACHE", str(tmp_path))
    assert "3.0 GiB in use" in by_name(machine.folders(tmp_path))["cache"].detail


def versions_with(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, Finding]:
    real = hardware.environment(CPU, 1)
    monkeypatch.setattr(machine, "environment", lambda *_: real | changes)
    return by_name(machine.versions(CPU, 1))


def test_commit_and_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    clean = versions_with(monkeypatch, git={"commit": "0123456789abcdef", "dirty": False})["initbench"]
    assert clean.state == "ok"
    assert "commit 0123456789ab" in clean.detail
    dirty = versions_with(monkeypatch, git={"commit": "0123456789abcdef", "dirty": True})["initbench"]
    assert dirty.state == "warning"
    assert "commit them before runs" in dirty.detail
    assert versions_with(monkeypatch, git=None)["initbench"].detail.endswith(", installed")


def test_a_package_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "PACKAGES", ("torch", "no-such-package"))
    found = versions_with(monkeypatch)
    assert found["packages"].detail.startswith("torch ")
    assert found["no-such-package"].state == "problem"


def test_versions_that_are_known_to_be_slow_or_wrong_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packages = {"initbench": "1", "torch": "2.9.1"}
    slow = versions_with(monkeypatch, packages=packages)["torch"]
    assert slow.state == "warning"
    assert "pytorch#166122" in slow.detail
    assert "torch 2.10.0" in versions_with(monkeypatch, packages=packages | {"torch": "2.10.0"})["packages"].detail
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    wrong = versions_with(monkeypatch)["cuda"]
    assert wrong.state == "problem"
    assert "pytorch#163539" in wrong.detail


def test_a_convolution_with_wrong_numbers_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert training._convolution(CPU, 1).state == "ok"
    real = functional.conv3d

    def wrong(image: Tensor, *arguments: Any, **named: Any) -> Tensor:
        output = real(image, *arguments, **named)
        return output * 1.05 if output.dtype == torch.bfloat16 else output

    monkeypatch.setattr(training.functional, "conv3d", wrong)
    found = training._convolution(CPU, 1)
    assert found.state == "problem"
    assert "--precision float32" in found.detail
    assert training._relative(torch.ones(3), torch.tensor([1.0, math.nan, 1.0])) == math.inf


def test_a_driver_that_torch_does_not_see(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_DRIVER", tmp_path / "version")
    assert machine._cuda().state == "ok"
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n")
    found = machine._cuda()
    assert found.state == "warning"
    assert "driver 550.54.15, but torch sees no GPU" in found.detail


def test_more_threads_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert "--jobs 2 uses all" in machine._threads(2).detail
    assert machine._threads(5).state == "warning"


def test_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda _: 2**30)
    found = by_name(machine.devices(1))["cpu"]
    assert found.state == "warning"
    assert found.detail.count("1.0 GiB of ") == 1


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_sets_found_missing_and_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INITBENCH_DATA", f"{tmp_path / 'data'}:{tmp_path / 'gone'}")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    folder = make_msd(tmp_path / "data" / "Task04_Hippocampus", cases=5, modality="MRI")
    found = by_name(examine("data", Examination()))
    assert found["hippocampus"].state == "ok"
    assert found["hippocampus"].detail == f"5 cases, split auto, in {folder}"
    assert (found["phantom-lung"].state, found["lung"].state) == ("ok", "absent")
    assert "Task06_Lung was not found" in found["lung"].detail
    assert found["INITBENCH_DATA"].detail.startswith(f"{tmp_path / 'gone'} is no folder")
    (folder / "labelsTr" / "case_01.nii.gz").unlink()
    broken = by_name(examine("data", Examination()))["hippocampus"]
    assert broken.state == "problem"
    assert "labelsTr/case_01.nii.gz" in broken.detail


def test_a_data_root_that_is_not_there_is_said_once(tmp_path: Path) -> None:
    found = list(examine("data", Examination(data_root=tmp_path / "gone")))
    assert [f.name for f in found if f.state == "problem"] == ["--data-root"]
    assert by_name(found)["phantom-lung"].state == "ok"


# --- plug-ins ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], list[Finding]]]:
    """Puts a package on the path as an installer does, and examines the plug-ins."""

    def put(entries: str, module: str) -> list[Finding]:
        metadata = tmp_path / "lab_inits-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-inits\nVersion: 1.2\n")
        (metadata / "entry_points.txt").write_text(f"[initbench.initializers]\n{entries}\n")
        (tmp_path / "lab_inits.py").write_text(module)
        monkeypatch.syspath_prepend(tmp_path)
        registry.forget()
        return list(examine("plug-ins", Examination()))

    yield put
    registry.forget()


GOOD = "def init(model, ctx):\n    pass\n"


def test_a_plug_in_that_works(install: Callable[[str, str], list[Finding]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "lab_inits", raising=False)
    found = by_name(install("mine = lab_inits:init", GOOD))
    assert found["mine"].state == "ok"
    assert found["mine"].detail == "initializer of lab-inits 1.2 (lab_inits:init)"
    assert found["built-in"].state == "ok"


@pytest.mark.parametrize(
    ("entries", "module", "says"),
    [
        ("mine = lab_inits:init", "import no_such_thing\n", "ModuleNotFoundError: No module named 'no_such_thing'"),
        ("mine = lab_inits:init", "raise RuntimeError('planted')\n", "RuntimeError: planted"),
        ("mine = lab_inits:init", "import sys\nsys.exit(3)\n", "SystemExit: 3"),
        ("mine = lab_inits:init", "def init(:\n", "SyntaxError"),
        ("mine = lab_inits:unit", GOOD, "AttributeError: module 'lab_inits' has no attribute 'unit'"),
        ("mine = lab_inits:init", "init = 3\n", ""),
        ("mine = no_such_package:init", GOOD, "there is no module no_such_package; reinstall the plug-in"),
        ("lwi = lab_inits:init", GOOD, "has the name of a built-in"),
    ],
)
def test_a_broken_plug_in_is_named_with_its_error_and_origin(
    install: Callable[[str, str], list[Finding]], monkeypatch: pytest.MonkeyPatch, entries: str, module: str, says: str
) -> None:
    monkeypatch.delitem(__import__("sys").modules, "lab_inits", raising=False)
    found = by_name(install(entries, module))
    finding = found[entries.partition(" ")[0]]
    assert finding.state == "problem"
    assert "initializer" in finding.detail
    assert "lab-inits 1.2" in finding.detail
    assert says in finding.detail
    assert "\n" not in finding.detail
    assert found["built-in"].state == "ok", "the others are examined all the same"


def test_a_built_in_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    real = registry._import

    def broken(entry: Any) -> Any:
        if entry.target.endswith("lwi:lwi"):
            raise ImportError("planted")
        return real(entry)

    registry.forget()
    monkeypatch.setattr(registry, "_import", broken)
    found = by_name(examine("plug-ins", Examination()))
    assert found["lwi"].state == "problem"
    assert "built-in initializer: ImportError: planted; install initbench again" in found["lwi"].detail
