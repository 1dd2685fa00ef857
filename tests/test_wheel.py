"""The wheel: what is in it, what it tells of itself, and that it works outside of a checkout."""

import email
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("layers", "trainers", "zoo", "export")

pytest.importorskip("wheel", reason="wheel, which builds, is not there")


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def tracked():
    """The files that git knows, or would take, of the rooms and the project itself."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in names.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, which stays as it is."""
    source, output = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in tracked():
        if name.startswith(ROOMS) or "/" not in name:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "-w", output, source)
    (path,) = output.glob("*.whl")
    return path


def test_the_wheel_has_every_file_of_the_rooms(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    rooms = {f"ponderzoo/{name}" for name in tracked() if name.split("/")[0] in ROOMS}
    assert rooms and rooms == {name for name in packed if name.startswith("ponderzoo/")}
    assert {f"ponderzoo/{room}/py.typed" for room in ROOMS} < packed


def test_the_wheel_is_small_enough_to_be_published(wheel):
    assert wheel.stat().st_size < 100e6  # the limit of the package index


def test_the_wheel_tells_who_wrote_it_and_under_which_licence(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        told = email.message_from_string(archive.read(name).decode())
    assert told["Author"] == "The ponderzoo authors" and told["License"] == "Apache-2.0"
    version = f"version: {told['Version']}\n"
    assert version in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_the_wheel_loads_a_pretrained_model_outside_of_a_checkout(wheel, tmp_path):
    pip("install", "--no-deps", "--no-index", "--target", tmp_path / "site", wheel)
    code = (
        "from ponderzoo import export, layers, trainers, zoo\n"
        "model = zoo.load('act_parity')\n"
        "print(*(room.__file__ for room in (export, layers, trainers, zoo)), model.count_params())"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    *files, parameters = found.stdout.split()
    assert all(file.startswith(str(tmp_path / "site" / "ponderzoo")) for file in files), files
    assert int(parameters) > 0
