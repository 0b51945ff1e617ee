"""What is shipped is what is here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.folders import ROOT

LINKS = {f"initbench/{name}": f"../{name}" for name in ("initializers", "backbones", "regimens")}


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def package_folders() -> dict[str, Path]:
    """Every package of the tree by its name; links are not followed, the root folders stand for them."""
    found = {}
    for top, name in ((ROOT / "initbench", "initbench"), *((ROOT / link[10:], link.replace("/", ".")) for link in LINKS)):
        for folder, _, files in os.walk(top, followlinks=False):
            if "__init__.py" in files:
                found[".".join([name, *Path(folder).relative_to(top).parts])] = Path(folder)
    return found


def test_every_package_is_listed(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(package_folders())
    assert len(listed) == len(set(listed))


def test_every_folder_with_python_is_a_package() -> None:
    folders = {
        path.parent for top in ("initbench", "initializers", "backbones", "regimens") for path in (ROOT / top).rglob("*.py")
    }
    real = {folder for folder in folders if not any(folder.is_relative_to(ROOT / link) for link in LINKS)}
    assert real == set(package_folders().values())


def test_package_folders_are_where_the_table_says(project: dict[str, Any]) -> None:
    table = project["tool"]["setuptools"]["package-dir"]
    assert table == {
        "initbench": "initbench",
        **{f"initbench.{name}": name for name in ("initializers", "backbones", "regimens")},
    }


def data_files(project: dict[str, Any]) -> dict[str, set[Path]]:
    folders = package_folders()
    globs = project["tool"]["setuptools"]["package-data"]
    return {f"{name}: {glob}": set(folders[name].glob(glob)) for name, patterns in globs.items() for glob in patterns}


def test_package_data_is_all_there_is(project: dict[str, Any]) -> None:
    matched = data_files(project)
    assert [glob for glob, files in matched.items() if not files] == []
    other = {
        path
        for folder in package_folders().values()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    }
    real = {path for path in other if not any(path.is_relative_to(ROOT / link) for link in LINKS)}
    assert real == set().union(*matched.values())


@pytest.mark.parametrize(("link", "target"), LINKS.items())
def test_links_lead_to_the_root_folders(link: str, target: str) -> None:
    path = ROOT / link
    assert path.is_symlink()
    assert os.readlink(path) == target
    assert path.resolve() == ROOT / link.removeprefix("initbench/")


def test_links_are_tracked_as_links() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    listed = subprocess.run(["git", "ls-files", "-s", *LINKS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    modes = {line.split("\t")[1]: line.split(" ")[0] for line in listed.splitlines()}
    assert modes == dict.fromkeys(LINKS, "120000")


def test_git_ignores_no_source() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    command = [
        "git",
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "initbench",
        "initializers",
        "backbones",
        "regimens",
        "tests",
    ]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [name for name in ignored if "__pycache__" not in name] == []


def test_version_and_licence(project: dict[str, Any]) -> None:
    assert version("initbench") == project["project"]["version"]
    assert project["project"]["license-files"] == ["LICENSE"]
    assert project["project"]["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
    assert (ROOT / project["project"]["readme"]).is_file()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> dict[str, str]:
    lines = [line.strip() for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def direct(project: dict[str, Any]) -> dict[str, str]:
    """Lower bound of every direct dependency."""
    table = project["project"]
    texts = [*table["dependencies"], *(item for extra in table["optional-dependencies"].values() for item in extra)]
    parts = [re.fullmatch(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+)(?:,<[0-9.]+)?)?", text) for text in texts]
    assert None not in parts
    return {normal(part[1]): part[2] for part in parts if part}


def test_constraints_pin_every_direct_dependency_and_name_no_place(project: dict[str, Any]) -> None:
    pinned = pins()
    # timm brings torchvision, which must be of torch's own release.
    assert sorted(map(normal, pinned)) == sorted([*direct(project), "torchvision"])
    assert all(re.fullmatch(r"\d+(\.\w+)+", number) for number in pinned.values())  # no local build, as in 2.8.0+cpu
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert not re.search(r"://|^\s*-|@|\b\w+\.(com|org|io|net)\b|/", text, re.MULTILINE)


def test_constraints_satisfy_the_lower_bounds(project: dict[str, Any]) -> None:
    def number(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)]

    pinned = {normal(name): value for name, value in pins().items()}
    assert [name for name, low in direct(project).items() if low and number(pinned[name]) < number(low)] == []


@pytest.mark.full
def test_the_wheel_holds_everything(project: dict[str, Any], tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("initbench", "initializers", "backbones", "regimens"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "dist"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    assert wheel.name == f"initbench-{project['project']['version']}-py3-none-any.whl"
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {glob.partition(":")[0]: files for glob, files in data_files(project).items()}
    expected = {
        f"{package.replace('.', '/')}/{path.relative_to(folder)}"
        for package, folder in package_folders().items()
        for path in [*folder.glob("*.py"), *data.get(package, ())]
    }
    shipped = {name for name in names if ".dist-info/" not in name}
    assert shipped == expected
    assert {"initbench/py.typed", "initbench/recipes/base.toml", "initbench/datasets/published_splits/lung.json"} <= shipped
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_former_name_that_plugins_use_still_is_one() -> None:
    from initbench.data.folder import Layout as Former
    from initbench.datasets.folder import FolderLayout

    assert Former is FolderLayout
