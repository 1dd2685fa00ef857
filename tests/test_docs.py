"""The pages of the project: their links, their papers, and their code, which runs as it stands."""

import importlib.util
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys

import pytest
import yaml
from ponderzoo import zoo
from ponderzoo.export import _cli, _gate, _package
from ponderzoo.export.server._server import Server

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN = """
import json, sys
for path, code in json.load(sys.stdin).items():
    exec(compile(code, path, "exec"), {"__name__": "__main__"})
"""
WITHOUT_ENTRIES = {"1606.03401"}  # memory-efficient backpropagation through time


def loaded(name):
    """A module of `docs/`, which is no package."""
    path = os.path.join(ROOT, "docs", f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"docs_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages = loaded("pages")
TEXTS = sorted(path for path in pages.places() if path.endswith(".md"))
WITH_CODE = [
    path for path in TEXTS if "zoo/pretrained" not in path and CODE.search(pages.read_text(path))
]


def test_every_paper_has_a_page_and_every_page_a_paper():
    papers = {zoo.info(name).paper.arxiv for name in zoo.list()}
    assert pages.papers().keys() == papers | WITHOUT_ENTRIES
    assert {path for path in TEXTS if path.startswith("docs/guides/")} == {
        f"docs/guides/{name}.md" for name in pages.GUIDES
    }


@pytest.mark.parametrize("path", TEXTS)
def test_links_lead_to_pages(path):
    pages.linked(pages.read_text(path), posixpath.dirname(path), pages.places()[path])


def test_a_link_to_nowhere_is_refused_and_others_are_moved():
    place = pages.linked(
        "[a](../../README.md#install) ![b](../../zoo/pretrained/act_logic/card.md)",
        "docs/guides",
        "guides/act.md",
    )
    assert place == "[a](../index.md#install) ![b](../entries/act_logic.md)"
    assert (
        pages.linked("[a](https://b.c/d) [e](#f)", "", "index.md") == "[a](https://b.c/d) [e](#f)"
    )
    with pytest.raises(ValueError, match=r"index.md links to no.md, which is no page"):
        pages.linked("[a](no.md)", "", "index.md")


def test_formulas_become_mathml_and_code_stays():
    found = pages.with_maths("$a_1$ `$b$`\n\n$$c$$\n```sh\necho $d $e\n```\n")
    assert found.count("<math") == 2 and 'display="block"' in found
    assert "`$b$`" in found and "echo $d $e" in found


def test_docstrings_are_read_as_markdown():
    read = loaded("docstrings").read
    text = "One.\n\nCall arguments:\n    x: `(batch,)`,\n        or none.\n    y: other.\n\n"
    text += "Example:\n    >>> 1"
    assert read(text) == (
        "One.\n\nCall arguments:\n    - `x`: `(batch,)`,\n        or none.\n    - `y`: other.\n\n"
        "Examples:\n    >>> 1"
    )


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A directory where `runs/exports` has a package of act_addition, and the server's address."""
    home = tmp_path_factory.mktemp("user")
    entry = zoo.info("act_addition")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_gate, "verify", lambda *given: None)  # `test_conformance.py` has it
        model, exports = zoo.load(entry.name), str(home / "runs" / "exports")
        signatures = entry.signatures(model, zoo.task_of(entry))
        _package.package(model, signatures, entry.name, exports)
    with Server(exports) as server:
        yield home, server.address


def test_the_code_on_the_pages_runs(served):
    """Of each page from top to bottom, as a reader would; all of them in one other process."""
    home, address = served
    parts = {path: "\n".join(CODE.findall(pages.read_text(path))) for path in WITH_CODE}
    assert {"README.md", "docs/guides/act.md", "docs/guides/serving.md"} <= parts.keys()
    text = json.dumps(parts).replace("localhost:8500", address)
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=text, cwd=home, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def client_in_node(tmp_path_factory):
    """A directory with `docs/clients`, its packages of npm and the descriptor set."""
    if not shutil.which("npm"):
        pytest.skip("no npm on PATH")
    home = tmp_path_factory.mktemp("node") / "clients"
    shutil.copytree(
        os.path.join(ROOT, "docs", "clients"), home, ignore=shutil.ignore_patterns("node_modules")
    )
    install = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        done = subprocess.run(install, cwd=home, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("npm had no answer")
    if done.returncode:
        pytest.skip(f"npm could not install: {done.stderr[-300:]}")
    subprocess.run([sys.executable, "descriptors.py", "serving.pb"], cwd=home, check=True)
    return home


@pytest.mark.parametrize(
    "numbers, code, words",
    [
        (["381", "4", "99"], 0, r"sums 385 484\nupdates \d \d \d\n"),
        (["381", "x"], 1, r"\S+ answered INVALID_ARGUMENT: numbers must be of 1 to 5 digits, .*\n"),
        (["381"], 2, r"usage: node predict.js HOST:PORT NUMBER NUMBER ...\n"),
    ],
    ids=["answered", "refused", "too few"],
)
def test_a_client_in_node_asks_as_ours_does(served, client_in_node, numbers, code, words):
    command = ["node", "predict.js", served[1], *numbers]
    done = subprocess.run(command, cwd=client_in_node, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert re.fullmatch(words, done.stderr if code else done.stdout), done.stdout + done.stderr


def test_entries_of_several_papers_stand_side_by_side():
    page = pages.comparisons()
    section = page.partition("## characters\n")[2].partition("\n## ")[0]
    head, _, *rows = re.findall(r"^\|.*$", section, re.MULTILINE)
    heads = [cell.strip() for cell in head.split("|")]
    metrics = zoo.info("bytenet_wikipedia").metrics
    row = next(row for row in rows if row.startswith("| [bytenet_wikipedia](entries/"))
    cells = dict(zip(heads, (cell.strip() for cell in row.split("|")), strict=True))
    assert cells["compression: xz"] == f"{metrics['compression']['xz']:.3f}"
    assert cells["bits per character"] == f"{metrics['bits_per_character']:.3f}"
    assert cells["settings"] == "length 300, context 100"
    assert cells["cpu minutes"] == f"{metrics['cpu_minutes']:.2f}"
    assert any(row.startswith("| its baseline, without ACT |") for row in rows)


def test_the_site_builds_without_a_warning(tmp_path):
    command = ["-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "RUN_NOTEBOOKS": "false"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    found = "gallery", "comparisons", "guides/act", "notebooks/act", "reference/layers/act"
    for page in ("index", *(f"{place}/index" for place in found)):
        assert (tmp_path / f"{page}.html").stat().st_size > 5000


def test_the_image_of_the_server_knows_whether_it_serves(served):
    """The health check of the Dockerfile, and that its command is one of the program."""
    _, address = served
    text = pages.read_text("Dockerfile")
    (health,) = re.findall(r'HEALTHCHECK .*? CMD python -c "(.*)"$', text, re.MULTILINE)
    for port, code in ((address, 0), ("localhost:1", 1)):
        command = [sys.executable, "-c", health.replace("localhost:8500", port)]
        assert subprocess.run(command, capture_output=True).returncode == code
    (words,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    program, *words = json.loads(words)
    assert program == "ponderzoo" and _cli._parser().parse_args(words).host == "0.0.0.0"


def test_github_runs_what_ci_runs():
    jobs = yaml.safe_load(pages.read_text(".github/workflows/ci.yml"))["jobs"]
    commands = {step.get("run") for job in jobs.values() for step in job["steps"]}
    assert commands == {None, ".ci/run", "make lint", "make docs"}
