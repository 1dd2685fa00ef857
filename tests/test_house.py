"""The rules of the house: which room knows which, what is written down, what stays out."""

import ast
import importlib
import importlib.util
import inspect
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import typing

import keras
import numpy as np
import ponderzoo.export
import ponderzoo.layers
import ponderzoo.trainers
import ponderzoo.zoo
import pytest
from ponderzoo import zoo
from ponderzoo.export import client

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("layers", "trainers", "zoo", "export")
FILES = sorted(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))
PUBLIC = [file for file in FILES if not file.name.startswith("_")]


def name_of(file):
    return str(file.relative_to(ROOT))


def run(tool, *arguments):
    """Runs a tool of the environment in the root of the checkout."""
    program = pathlib.Path(sys.executable).with_name(tool)
    if not program.exists():
        pytest.skip(f"{tool} is not installed")
    return subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)


def test_rooms_import_in_one_direction():
    found = run("lint-imports", "--no-cache")
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=" ".join)
def test_style_is_clean(arguments):
    found = run("ruff", *arguments, "--no-cache", ".")
    assert found.returncode == 0, found.stdout + found.stderr


def test_no_room_is_loaded_under_a_second_name():
    assert not {*ROOMS} & sys.modules.keys()


@pytest.mark.parametrize("file", PUBLIC, ids=name_of)
def test_everything_public_is_documented(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the file"
    for node in tree.body:
        defines = isinstance(node, (ast.ClassDef, ast.FunctionDef))
        if defines and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@pytest.mark.parametrize("room", ROOMS)
def test_everything_a_room_offers_is_documented(room):
    package = getattr(ponderzoo, room)
    assert room == "export" or package.__doc__
    for name, value in vars(package).items():
        ours = getattr(value, "__module__", "").startswith("ponderzoo.")
        if ours and not name.startswith("_") and (inspect.isclass(value) or callable(value)):
            assert inspect.getdoc(value), name


def offered():
    """What a user calls, by name: functions, and classes of which objects are made."""
    for room in (ponderzoo.layers, ponderzoo.trainers, ponderzoo.zoo, client):
        for name, value in vars(room).items():
            home = "ponderzoo." if room is not client else client.__name__
            ours = getattr(value, "__module__", "").startswith(home)
            if ours and not name.startswith("_") and callable(value):
                yield pytest.param(value, id=name)


@pytest.mark.parametrize("value", [*offered()])
def test_what_users_call_says_its_types(value):
    if inspect.isclass(value):
        if "__init__" not in vars(value):
            pytest.skip("made as its base is")
        value = value.__init__
    told = typing.get_type_hints(value)
    assert told.keys() == {*inspect.signature(value).parameters, "return"} - {"self"}


def imports(statements, under_condition=False):
    """(module, whether an `if` decides) of all imports that run with the file."""
    for node in statements:
        if isinstance(node, ast.Import):
            yield from ((alias.name, under_condition) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module, under_condition
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            inner = under_condition or isinstance(node, ast.If)
            for field in ("body", "orelse", "handlers", "finalbody"):
                children = getattr(node, field, [])
                yield from imports(children if isinstance(children, list) else [], inner)


@pytest.mark.parametrize(
    "file", [f for f in FILES if ROOT / "export" not in f.parents], ids=name_of
)
def test_no_backend_is_imported_with_a_module(file):
    """The file that carries what backends do in their own ways may import the one that runs."""
    found = {
        (module.partition(".")[0], condition)
        for module, condition in imports(ast.parse(file.read_text(encoding="utf-8")).body)
    }
    allowed = (
        {("tensorflow", True), ("jax", True)} if name_of(file) == "layers/_backend.py" else set()
    )
    assert {f for f in found if f[0] in ("tensorflow", "jax", "torch")} <= allowed


def modules(tree):
    """Names that a file knows other files by."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level)
    stems = {file.stem for file in FILES}
    aliases = (alias for node in nodes for alias in node.names if alias.name in stems)
    return {alias.asname or alias.name for alias in aliases}


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_what_is_private_to_a_file_is_used_in_it_alone(file):
    """Files may begin with `_`, as plumbing; a name in them that does is theirs."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known, found = modules(tree), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = {alias.name for alias in node.names if alias.name.startswith("_")}
            found |= names - {file.stem for file in FILES}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            is_private = node.attr.startswith("_") and not node.attr.startswith("__")
            found |= {node.attr} if is_private and node.value.id in known else set()
    assert not found


@pytest.mark.parametrize("jax", ["installed", "missing"])
def test_another_backend_is_refused_in_one_clear_sentence(jax, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    if jax == "missing":
        monkeypatch.setitem(sys.modules, "jax", None)
    else:
        pytest.importorskip("jax", reason="JAX is not installed")
    spec = importlib.util.spec_from_file_location("backend_of_torch", ROOT / "layers/_backend.py")
    with pytest.raises(ImportError, match=r"tensorflow and jax backends.*'torch'"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def tracked():
    """The files under version control."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name]


def machine_words():
    """What this machine alone would write: its paths, its name, where it installs from."""
    paths = {str(ROOT), str(ROOT.parent), os.path.expanduser("~"), sys.prefix}
    words = {path + "/" for path in paths if path.count("/") > 1}
    name = socket.gethostname()
    words |= {name} if len(name) > 8 and name != "localhost" else set()
    for key in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX_URL", "HTTPS_PROXY"):
        words |= set(re.findall(r"//(?:[^/@]*@)?([^/:@]{4,})", os.environ.get(key, "")))
    return words - {"pypi.org", "localhost", "127.0.0.1"}


# Paths of homes and build machines, private networks, mirrors.
OF_A_MACHINE = re.compile(
    rb"(?<![\w.~-])/(?:home|Users|root|work|mnt)/[\w.-]+"
    rb"|(?<![\d.])(?:10|192\.168|172\.(?:1[6-9]|2\d|3[01]))(?:\.\d{1,3}){2,3}(?![\d.])"
    rb"|[\w-]+(?-i:\.(?:internal|corp|intranet))\b"
    rb"|\b(?:artifactory|nexus)\b|--(?:extra-)?index-url",
    re.IGNORECASE,
)


def test_nothing_of_a_machine_is_kept():
    words = [re.escape(word.encode()) for word in machine_words()]
    here = re.compile(b"|".join(words) or b"(?!)")
    for file in tracked():
        if file == pathlib.Path(__file__).resolve() or not file.exists():
            continue
        for text in (str(file.relative_to(ROOT)).encode(), file.read_bytes()):
            found = here.search(text) or (b"\0" not in text and OF_A_MACHINE.search(text))
            assert not found, (name_of(file), found[0])


def test_only_what_belongs_is_tracked():
    found = [name_of(file) for file in tracked()]
    assert not [
        name for name in found if re.search(r"(^|/)(runs|__pycache__|\.venv)/|\.pyc$", name)
    ]


def test_nothing_is_said_behind_the_last_line_of_the_tests():
    """What is printed while `conftest.py` is loaded, pytest shows when all is over."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    code = "import conftest, keras; keras.ops.ones(1)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT / "tests", env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Habits from other zoos.


def test_a_run_is_loaded_as_an_entry_is(tmp_path):
    directory = zoo.info("grid_lstm_parity").directory
    shutil.copytree(directory, tmp_path / "run")
    found, model = zoo.load(str(tmp_path / "run")), zoo.load("grid_lstm_parity")
    for one, other in zip(found.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(FileNotFoundError, match=r"has no model\.keras yet"):
        (tmp_path / "run" / "model.keras").unlink()
        zoo.load(str(tmp_path / "run"))


@pytest.mark.parametrize("name", ["hf://keras/act_parity", "ponderzoo/act_parity", "act_partiy"])
def test_an_address_of_another_zoo_is_told_the_name_here(name):
    with pytest.raises(ValueError, match="Did you mean 'act_parity'"):
        zoo.load(name)


def test_functions_of_other_zoos_are_told_what_they_are_called_here():
    with pytest.raises(AttributeError, match=r"has no from_preset; it is called zoo\.load here"):
        zoo.from_preset("act_parity")
    assert not hasattr(zoo, "presets") and not hasattr(zoo, "nothing")
