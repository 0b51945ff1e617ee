"""Wrong command lines: exit code 2 and one line that says what is wrong, before anything is written; torch is loaded by few."""

from __future__ import annotations

import pytest

from tests.one_process import Ended, in_one_process
from tests.recorded import write_block

RUN = ["run", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", "new"]
DEFAULT = [*RUN, "--init", "default"]
PLAN = ["plan", "--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu", "--out", "new"]
ONE = ["--backbone", "unetr", "--size", "tiny", "--budget", "smoke", "--device", "cpu"]

# The command, and what its one line says.
LIGHT: list[tuple[list[str], str]] = [
    # Names
    ([*RUN, "--init", "default,xavier-norml"], "unknown initializer 'xavier-norml': did you mean xavier-normal"),
    ([*RUN, "--init", ","], "no initializer is named"),
    ([*RUN, "--init", ""], "no initializer is named"),
    (["run", "--init", "default", "--backbone", ""], "no backbone is named"),
    (["run", "--init", "default", "--backbone", "untr"], "unknown backbone 'untr': did you mean unetr"),
    ([*DEFAULT, "--dataset", ","], "no dataset is named"),
    ([*DEFAULT, "--dataset", "phantom-lug"], "unknown dataset 'phantom-lug': did you mean phantom-lung"),
    ([*DEFAULT, "--dataset", "./nowhere"], "there is no dataset.json there"),
    ([*DEFAULT, "--data-root", "nowhere"], "--data-root nowhere is no folder"),
    ([*RUN, "--init", "lwi(mask_ratio=0.5"], "the closing parenthesis is missing"),
    ([*RUN, "--init", "shuffled(lwi, mae)"], "arguments are given by name, as in lwi(mask_ratio=0.6)"),
    (RUN, "Missing option '--init'"),
    # Numbers and words of options
    ([*DEFAULT, "--budget", "large"], "'large' is not one of 'smoke', 'short', 'paper'"),
    ([*DEFAULT, "--size", "huge"], "'huge' is not one of 'tiny', 'paper'"),
    ([*DEFAULT, "--protocol", "fair"], "'fair' is not one of 'equal-total'"),
    ([*DEFAULT, "--precision", "fp8"], "'fp8' is not one of 'auto'"),
    ([*DEFAULT, "--seeds", "2", "--seed", "1"], "--seeds N (0 to N-1) and --seed I exclude"),
    ([*DEFAULT, "--seeds", "0"], "Invalid value for '--seeds'"),
    ([*DEFAULT, "--seeds", "100000000000"], "Invalid value for '--seeds'"),
    ([*DEFAULT, "--seed", "-1"], "Invalid value for '--seed'"),
    ([*DEFAULT, "--checkpoint-every", "inf"], "Invalid value for '--checkpoint-every'"),
    ([*DEFAULT, "--checkpoint-every", "nan"], "Invalid value for '--checkpoint-every'"),
    ([*DEFAULT, "--threads", "1000000"], "Invalid value for '--threads'"),
    ([*DEFAULT, "--jobs", "0"], "Invalid value for '--jobs'"),
    ([*DEFAULT, "--executor", "locl"], "unknown executor 'locl': did you mean local"),
    ([*DEFAULT, "--devices", "first"], "--devices first: numbers of GPUs, as 0,1"),
    ([*DEFAULT, "--mix", "--same-kind"], "--mix and --same-kind exclude each other"),
    (["work", "void"], "void holds no study; `initbench plan"),
    (["work", "void", "--time-limit", "3"], "write a number and s, m, h or d, as 90m or 3h"),
    (["work", "void", "--time-limit", "1000h"], "a week at most"),
    (["work", "void", "--run", "-1"], "Invalid value for '--run'"),
    (["work", "void", "--mix", "--same-kind"], "--mix and --same-kind exclude each other"),
    (["cancel", "void"], "void holds no study"),
    ([*DEFAULT, "--nsd-tolerance", "nan"], "--nsd-tolerance"),
    ([*DEFAULT, "--epochs", "5"], "No such option: --epochs"),
    ([*DEFAULT, "more"], "unexpected extra argument"),
    # Other commands
    ([*PLAN, "--init", "lwii"], "unknown initializer 'lwii': did you mean lwi"),
    ([*PLAN, "--init", "default", "--sd", "1,2"], "--sd '1,2': write SDs of seed"),
    ([*PLAN, "--init", "default", "--format", "xml"], "'xml' is not one of 'table'"),
    (["reproduce", "lwi:table-66"], "nothing published is called 'lwi:table-66': did you mean lwi:table-6"),
    (["reproduce", "--seeds", "2"], "--seeds: say which table or figure"),
    (["reproduce", "lwi:table-6", "--dry-run", "--report-only"], "--dry-run and --report-only exclude each other"),
    (["reproduce", "lwi:table-6", "--backbone", "untr"], "unknown backbone 'untr': did you mean unetr"),
    (["pretrain", "--init", "mea", *ONE, "--weights", "new.pth"], "unknown initializer 'mea': did you mean mae"),
    (["pretrain", "--init", "mae", *ONE], "Missing option '--weights'"),
    (["diagnose", "--init", "xavier-normla", *ONE], "unknown initializer 'xavier-normla': did you mean xavier-normal"),
    (["diagnose", "--init", "default", *ONE, "--plot", "new.jpeg"], "--plot new.jpeg: the file ends in .png"),
    (["leaderboard", "--out", "nowhere"], "nowhere: there is no such folder of runs"),
    (["leaderboard", "--out", "void"], "void holds no runs; `initbench run --init default,lwi"),
    (["leaderboard", "--dataset", "liver"], "runs holds no runs of liver"),
    (["leaderboard", "--grid", "natve"], "'natve' is not one of 'native', 'resampled'"),
    (["leaderboard", "--margin", "0"], "--margin 0: equivalence needs"),
    (["leaderboard", "--classes", "nodle"], "--classes: phantom-lung has no class 'nodle'; it has nodule"),
    (["leaderboard", "--against", "lwi"], "--against lwi: the inits of these runs are"),
    (["classes", "--out", "nowhere"], "nowhere: there is no such folder of runs"),
    (["compare"], "Missing argument"),
    (["compare", "default", "default"], "default is compared with itself"),
    (["compare", "default", "xavier-norml"], "no block has both default and xavier-norml"),
    (["variance", "--out", "void"], "void holds no runs"),
    (["power", "--cases", "5", "--sd", "1,2,nan"], "--sd '1,2,nan': write SDs of seed"),
    (["report", "--file", "void"], "--file void: that is a folder; name a file"),
    (["measure", "nowhere"], "nowhere is no run and holds none with a result"),
    (["measure", "runs", "--nsd-tolerance", "-1"], "Invalid value for '--nsd-tolerance'"),
    (["verify", "nowhere"], "nowhere is no run and holds none with a result"),
    (["verify", "runs", "--steps", "0"], "Invalid value for '--steps'"),
    (["status", "--out", "nowhere"], "nowhere holds no study"),
    (["retry"], "retry takes --failed or --all"),
    (["retry", "--all", "--out", "nowhere"], "nowhere holds no study"),
    (["describe", "untr"], "nothing is called 'untr'; did you mean unetr"),
    (["describe", ""], "'' is not a component"),
    (["list", "models"], "'models' is not one of 'inits'"),
    (["recipe", "show", "lugn"], "unknown recipe 'lugn'"),
    (["recipe", "diff", "lung"], "recipe diff compares two"),
    (["recipe", "show", "lung", "--set", "patch.sise=8"], "there is no setting patch.sise; did you mean patch.size"),
    (["data", "info", "phantom-lug"], "unknown dataset 'phantom-lug': did you mean phantom-lung"),
    (["data", "info", "phantom-lung", "--plot", "new.gif"], "--plot new.gif: the file ends in .png"),
    (["data", "verify", "hippocampos"], "unknown dataset 'hippocampos': did you mean hippocampus"),
    (["data", "prepare", "lungs"], "unknown dataset 'lungs': did you mean lung"),
    (["data", "download", "lungg"], "'lungg' is no task of the Medical Segmentation Decathlon: did you mean lung"),
    (["data", "fetch", "lung"], "No such command 'fetch'"),
    (["validate", "init", "orthogonl"], "unknown initializer 'orthogonl': did you mean orthogonal"),
    (["validate", "backbone", "untr"], "unknown backbone 'untr': did you mean unetr"),
    (["validate", "backbone", "unetr", "--patch", "3,4"], "--patch '3,4': write D,H,W"),
    (["doctor", "--fix"], "No such option: --fix"),
    (["judge"], "No such command 'judge'"),
]
# Torch tells what is wrong, or is needed to look.
HEAVY: list[tuple[list[str], str]] = [
    ([*DEFAULT, "--devices", "0"], "--devices is for GPUs, and these runs are on the CPU"),
    ([*RUN, "--init", "lwi(ratio=0.5)"], "lwi takes no ratio; its parameters: mask_ratio=0.4"),
    ([*RUN, "--init", "mae(mask_ratio=a)"], "mae: mask_ratio='a': it has to be a valid number"),
    ([*RUN, "--init", "mae(mask_ratio=1.5)"], "mask_ratio must lie between 0 and 1, got 1.5"),
    ([*RUN, "--init", "mae(mask_ratio=2),tube(mask_ratio=2)", "--seeds", "3"], "mask_ratio must lie between 0 and 1, got 2"),
    ([*RUN, "--init", "shuffled(mae(mask_patch=5))", "--skip-refused"], "mask_patch 5 does not divide the patch"),
    ([*RUN, "--init", "lwi(taps=(9,))", "--json"], "taps [9]: the backbone has levels 1 to 4"),
    ([*RUN, "--init", "order(pool=depht)"], "order: pool='depht': it has to be 'depth', 'width' or 'interleaved'"),
    ([*RUN, "--init", "trunc-normal(std=-1)"], "std is a finite number above 0, got -1"),
    ([*RUN, "--init", "./f.py:f"], "initializer './f.py:f' is int and no function"),
    ([*RUN, "--init", "./f.py:h"], "f.py has no 'h'; it has g"),
    ([*RUN, "--init", "./no.py:h"], "there is no file"),
    ([*RUN, "--init", "checkpoint"], "checkpoint needs path"),
    ([*RUN, "--init", "checkpoint(path=no.pt)"], "path='no.pt' is no file"),
    ([*RUN, "--init", "checkpoint(path=./page.pt)"], "checkpoint page.pt is a web page"),
    ([*RUN, "--init", "checkpoint(path=./f.py)"], "nothing was run"),
    ([*DEFAULT, "--set", "optimizer.ir=1"], "there is no setting optimizer.ir; did you mean optimizer.lr"),
    ([*DEFAULT, "--set", "patch"], "write --set section.field=value"),
    ([*DEFAULT, "--set", "patch.size=20,32,32"], "nearest valid: (16, 32, 32) or (32, 32, 32)"),
    ([*DEFAULT, "--set", "optimizer.lr=nan"], "optimizer.lr: Input should be a finite number"),
    ([*DEFAULT, "--set", "init.mask_ratio=1"], "no initializer of this sweep takes mask_ratio"),
    ([*DEFAULT, "--device", "tpu"], "--device is auto, cpu, cuda or cuda:i, got 'tpu'"),
    ([*DEFAULT, "--recipe", "mine"], "unknown recipe 'mine'; known: acdc, base"),
    ([*DEFAULT, "--fix", "noise"], "--fix noise: the streams are construct"),
    ([*DEFAULT, "--fold", "3/2"], "--fold 3/2: a fold is k/K"),
    ([*DEFAULT, "--fold", "1/1000"], "--fold 1/1000: phantom-lung has"),
    ([*DEFAULT, "--split", "best"], "phantom-lung has no split 'best'"),
    ([*DEFAULT, "--train-cases", "1000"], "--train-cases 1000: split auto has"),
    (["run", "--init", "default", *ONE, "--out", "f.py/runs"], "--out f.py/runs cannot be a folder"),
    ([*PLAN, "--init", "tube(mask_ratio=-1)"], "mask_ratio must lie between 0 and 1, got -1"),
    (["pretrain", "--init", "mae(mask_patch=3)", *ONE, "--weights", "new.pth"], "mask_patch 3 does not divide the patch"),
    (["pretrain", "--init", "mae", *ONE, "--weights", "new.bin"], "--weights new.bin: the name ends in .safetensors or .pth"),
    (["pretrain", "--init", "mae", *ONE, "--weights", "f.py/new.pth"], "--weights f.py/new.pth cannot be written"),
    (["diagnose", "--init", "lwi(taps=(1,1))", *ONE], "taps [1, 1]: name each level once"),
    (["reproduce", "lwi:table-6", "--size", "tiny", "--set", "patch.sise=8"], "there is no setting patch.sise"),
    (["validate", "init", "mae(mask_ratio=3)"], "mask_ratio must lie between 0 and 1, got 3"),
    (["validate", "backbone", "unetr(variant=convv)"], "unetr has no variant 'convv'; it has perceptron, conv"),
]
WRONG = {" ".join(command): (command, says) for command, says in (*LIGHT, *HEAVY)}


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How the wrong commands ended, one after the other in a folder with some runs."""
    folder = tmp_path_factory.mktemp("wrong")
    write_block(folder / "runs", {"default": [0.6, 0.62], "xavier-normal": [0.7, 0.71]})
    (folder / "void").mkdir()
    (folder / "f.py").write_text("f = 3\ndef g(model, ctx): ...\n", "utf-8")
    (folder / "page.pt").write_text("<!DOCTYPE html><html><body>Sign in</body></html>", "utf-8")
    return dict(zip(WRONG, in_one_process(folder, *(command for command, _ in WRONG.values())), strict=True))


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_is_refused_in_one_line_and_leaves_nothing(ended: dict[str, Ended], line: str) -> None:
    one = ended[line]
    assert WRONG[line][1] in one.err
    assert one.code == 2
    assert one.out == ""
    assert len(one.err.splitlines()) == 1
    assert one.made == []


def test_most_are_refused_before_torch_is_loaded(ended: dict[str, Ended]) -> None:
    assert [" ".join(command) for command, _ in LIGHT if "torch" in ended[" ".join(command)].heavy] == []


def test_there_are_enough() -> None:
    assert len(WRONG) == len(LIGHT) + len(HEAVY) > 100
