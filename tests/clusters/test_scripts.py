"""Scripts for Slurm, as text: what a task asks for, arrays above a site's limit, what a site file says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from initbench import cache
from initbench.clusters import scripts, settings, slurm
from initbench.clusters.settings import SlurmSettings, read_options, read_settings, read_time
from initbench.errors import UsageError
from tests.commands import said

STUDY = ("--init", "default,kaiming-normal", "--backbone", "unetrpp", "--seeds", "2", "--size", "tiny", "--budget", "smoke")


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a site file would be; nobody has one."""
    path = tmp_path / "site.toml"
    monkeypatch.setenv("INITBENCH_SITE", str(path))
    return path


def described(out: Path = Path("/shared/lung"), **options: Any) -> scripts.Study:
    return scripts.Study(out, "initbench-1", out / ".slurm" / "name", ("/env/bin/initbench",), Path("/home/me"), **options)


def written(chosen: SlurmSettings, runs: dict[int, str], size: int = 1001, **options: Any) -> dict[str, str]:
    return scripts.scripts(described(**options), chosen, scripts.arrays(runs, chosen, size))


def asked_of_slurm(text: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH")]


def submitted(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("submit ")]


def test_a_task_asks_for_what_was_said() -> None:
    chosen = read_settings(read_options("partition=gpu,gpus=a100:1,time=4h,qos=low,account=me,cpus=8,mem=32G"))
    found = written(chosen, dict.fromkeys(range(12), "a"))
    wanted = [
        *("--partition=gpu", "--account=me", "--qos=low", "--gpus=a100:1", "--cpus-per-task=8", "--mem=32G"),
        *("--time=0-04:00:00", "--requeue", "--open-mode=append"),
    ]
    for name in (scripts.PREPARE, scripts.RUN):
        assert set(wanted) <= set(asked_of_slurm(found[name])), name
    assert "--signal=B:USR1@120" in asked_of_slurm(found[scripts.RUN])
    last = found[scripts.RUN].splitlines()[-1]
    assert last.startswith('exec /env/bin/initbench work /shared/lung --run "$((SLURM_ARRAY_TASK_ID + $1))" $wait --or-next')
    assert "--time-limit 14400s" in last
    assert found[scripts.PREPARE].splitlines()[-1] == "exec /env/bin/initbench work /shared/lung --prepare"
    assert submitted(found[scripts.SUBMIT])[1:] == [
        'submit --dependency="afterok:$prepare" --kill-on-invalid-dep=yes --array=0-11 run.sh 0'
    ]


def test_nothing_is_asked_for_that_nobody_said() -> None:
    asked = asked_of_slurm(written(SlurmSettings(), {0: ""})[scripts.RUN])
    given = [line for line in asked if re.match("--(partition|account|qos|gpus|cpus|mem|time|constraint)", line)]
    assert not given


def test_a_short_task_is_not_warned_when_it_begins() -> None:
    assert "--signal=B:USR1@15" in asked_of_slurm(written(SlurmSettings(time="1"), {0: ""})[scripts.RUN])


@pytest.mark.parametrize("size", [1, 7, 1000, 1001])
def test_every_run_has_a_task_below_the_limit_of_an_array(size: int) -> None:
    runs = dict.fromkeys(set(range(2500)) - {3, 999, 1000, 1001}, "a")
    found = []
    for part in scripts.arrays(runs, SlurmSettings(), size):
        for interval in part.indices.split(","):
            first, _, last = interval.partition("-")
            assert int(last or first) < size
            found += [part.first + index for index in range(int(first), int(last or first) + 1)]
    assert sorted(found) == sorted(runs)
    assert len(found) == len(set(found))


def test_the_arrays_of_a_study_share_the_tasks_that_run_at_a_time() -> None:
    found = written(SlurmSettings(max_parallel=10), dict.fromkeys(range(2500), ""), 1000, prepare=None)
    assert submitted(found[scripts.SUBMIT]) == [
        "submit --array=0-999%3 run.sh 0",
        "submit --array=0-999%3 run.sh 1000",
        "submit --array=0-499%3 run.sh 2000",
    ]
    assert scripts.PREPARE not in found


def test_runs_of_one_block_and_seed_are_on_one_kind_of_node() -> None:
    runs = {number: f"seed {number // 4}" for number in range(80)}
    parts = scripts.arrays(runs, SlurmSettings(kinds="a100+h100"), 1001)
    assert [part.feature for part in parts] == ["a100", "h100"]
    later = scripts.arrays({5: runs[5]}, SlurmSettings(kinds="a100+h100"), 1001)
    kinds: dict[str, set[str]] = {}
    for part in [*parts, *later]:
        for number, group in runs.items():
            if number in numbers(part.indices):
                kinds.setdefault(group, set()).add(part.feature)
    assert {len(found) for found in kinds.values()} == {1}
    lines = submitted(written(SlurmSettings(kinds="a100+h100"), runs, prepare=None)[scripts.SUBMIT])
    assert ["--constraint=a100" in line for line in lines] == [True, False]
    assert ["--constraint=h100" in line for line in lines] == [False, True]


def numbers(indices: str) -> set[int]:
    found: set[int] = set()
    for interval in indices.split(","):
        first, _, last = interval.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def test_scripts_are_shell_also_where_names_are_strange(tmp_path: Path) -> None:
    out = tmp_path / 'a study\'s "folder" $HOME'
    chosen = SlurmSettings(setup="module load python\ntrue", stage="/local disk")
    found = scripts.scripts(described(out, environment={"INITBENCH_CACHE": "/a b"}), chosen, [scripts.Array(0, "0")])
    for name, text in found.items():
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, (name, checked.stderr)
    # The script itself, with a program in place of initbench that says what it was given.
    (out / ".slurm").mkdir(parents=True)
    (out / ".slurm" / "name").touch()
    text = found[scripts.RUN].replace("/env/bin/initbench", "printf '%s\\n'").replace("exec ", "").replace("/home/me", "/")
    environment = {"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "4"}
    command = ["bash", "-c", f"module() {{ :; }}\n{text}", "run.sh", "1000"]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert done.stdout.splitlines()[:5] == ["work", str(out), "--run", "1004", "--no-wait"], done.stderr
    environment["SLURM_RESTART_COUNT"] = "1"
    done = subprocess.run(command, env=environment, text=True, capture_output=True, check=False)
    assert "--no-wait" not in done.stdout


def test_a_node_that_does_not_see_the_study_says_so(tmp_path: Path) -> None:
    text = written(SlurmSettings(), {0: ""})[scripts.RUN]
    done = subprocess.run(["bash", "-c", text, "run.sh", "0"], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout == "initbench: this node does not see /shared/lung: take a folder that all nodes see (--out)\n"


def test_options_go_over_the_site_file(site: Path) -> None:
    site.write_text(
        '[slurm]\npartition = "gpu"\ngpus = 1\ntime = "1-12"\nsetup = """\nmodule load python\nsource env/bin/activate\n"""\n'
        'options = ["--exclude=node7", "--reservation=us"]\narray_size = 200\n',
        "utf-8",
    )
    chosen = read_settings({"partition": "short", "time": "30m"})
    assert (chosen.partition, chosen.gpus, chosen.seconds, chosen.array_size) == ("short", "1", 1800, 200)
    text = written(chosen, {0: ""})[scripts.RUN]
    assert {"--exclude=node7", "--reservation=us", "--gpus=1"} <= set(asked_of_slurm(text))
    assert "module load python\nsource env/bin/activate\n" in text
    assert read_settings({}).seconds == 36 * 3600


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("90", 5400), ("90:30", 5430), ("1:30:00", 5400), ("1-2", 93600), ("1-2:30", 95400), ("1-2:30:15", 95415)),
        *(("90m", 5400), ("3h", 10800), ("2d", 172800)),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, seconds: int) -> None:
    assert read_time(text) == seconds
    assert read_time(scripts._clock(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[slurm]\npartitoin = "gpu"', "partition"),
        ('[slurm]\npartition = "a\\nb"', "one line"),
        ('[slurm]\ntime = "soon"', "90m"),
        ('slurm = "gpu"', "no table"),
        ("[slurm", "cannot be read"),
        ("[slurm]\narray_size = 0", "whole number"),
        ('[slurm]\nconstraint = "a"\nkinds = "a+b"', "exclude each other"),
    ],
)
def test_a_site_file_that_is_wrong_is_refused_in_a_line(site: Path, text: str, reason: str) -> None:
    site.write_text(text, "utf-8")
    with pytest.raises(UsageError) as refused:
        read_settings({})
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["gpu", "partition=", "=gpu", "gpus=1,time"])
def test_settings_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        read_settings(read_options(text))


def test_what_squeue_says_is_read_and_made_safe_to_show(tmp_path: Path) -> None:
    folder = tmp_path / slurm.FOLDER / "001"
    folder.mkdir(parents=True)
    (folder / "jobs").write_text("7\n8 0\n9 1000\nnonsense\n", "ascii")
    said_by_slurm = """
8_0|FAILED|NonZeroExitCode
9_0|RUNNING|None
9_1|PENDING|\x1b[31mevil\x07|more
9_2|PENDING|DependencyNeverSatisfied
7|COMPLETED|None
4_0|RUNNING|None
9_x|RUNNING|None
nonsense
"""
    (tmp_path / slurm.FOLDER / "queue").write_text(said_by_slurm, "utf-8")
    found = slurm.queue(tmp_path)
    assert sorted(found) == [0, 1000, 1001, 1002]
    assert [found[number].is_alive for number in sorted(found)] == [False, True, True, False]
    assert all(str(task).isprintable() for task in found.values())


def test_of_two_tasks_of_a_run_the_one_that_lives_counts(tmp_path: Path) -> None:
    folder = tmp_path / slurm.FOLDER / "001"
    folder.mkdir(parents=True)
    (folder / "jobs").write_text("8 0\n9 0\n", "ascii")
    (tmp_path / slurm.FOLDER / "queue").write_text(
        "9_0|FAILED|None\n8_0|PENDING|Priority\n8_1|TIMEOUT|TimeLimit\n9_1|FAILED|None\n"
    )
    found = slurm.queue(tmp_path)
    assert found[0].id == "8_0"
    assert found[1].id == "9_1"


def test_without_slurm_a_study_is_refused_at_once_and_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "lung"
    refused = said(capsys, "run", *STUDY, "--out", str(out), "--executor", "slurm", code=2)
    assert "no sbatch" in refused
    assert refused.count("\n") == 1
    assert not out.exists()
    said(capsys, "run", *STUDY, "--out", str(out), "--slurm", "gpus=1", "--max-parallel", "2", "--dry-run")
    folder = out / ".slurm" / "001"
    assert "--gpus=1" in asked_of_slurm((folder / "run.sh").read_text("utf-8"))
    assert "--array=0-5%2 run.sh 0" in (folder / "submit.sh").read_text("utf-8")
    assert f"export INITBENCH_CACHE={cache.root()}" in (folder / "run.sh").read_text("utf-8")
    shown = said(capsys, "status", "--out", str(out))
    assert "6 runs: 6 pending" in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--dry-run",), "--executor slurm"),
        (("--max-parallel", "2"), "--executor slurm"),
        (("--slurm", "partitoin=gpu", "--dry-run"), "partition"),
        (("--executor", "slurm(partition=gpu, speed=9)", "--dry-run"), "speed"),
        (("--slurm", "kinds=a+b", "--dry-run"), "--precision"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], reason: str
) -> None:
    assert reason in said(capsys, "run", *STUDY, "--out", str(tmp_path / "out"), *words, code=2)
    assert not (tmp_path / "out").exists()


def test_every_setting_is_a_parameter_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "clusters.md").read_text("utf-8")
    missing = [name for name in SlurmSettings.__dataclass_fields__ if f"`{name}`" not in page]
    assert not missing
    assert settings.ENVIRONMENT in page
