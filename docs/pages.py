"""The pages of the site that are made of the project: papers, entries, gallery and reference.

A hook of MkDocs. What stands elsewhere is not written again: the README, the guides, cards with
their figures, benchmarks and docstrings become pages, and their links lead from page to page.
Notebooks run while the site is built, unless RUN_NOTEBOOKS=false is in the environment.
"""

import functools
import glob
import inspect
import os
import posixpath
import re
import subprocess
import sys
import tempfile

import nbformat
from latex2mathml.converter import convert
from mkdocs.structure.files import File
from mkdocs.utils.meta import get_data
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from ponderzoo import layers, trainers, zoo
from ponderzoo.trainers import _rooms, learning
from ponderzoo.zoo._card import (
    results_table,
    side_by_side,
    tasks_of_several_papers,
    without_weights,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WHOLE = {  # files of the project that are pages as they are
    "README.md": "index.md",
    "WORKSPACE.md": "map.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": "licence.md",
}
ROOMS = "layers", "trainers", "zoo", "export"
GUIDES = "act", "layers", "teacher", "own_data", "own_task", "cpu", "gpu", "machines"
GUIDES += "command_line", "serving"
LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
TAG = re.compile(r"\\tag\{([^}]*)\}")
MATHS = re.compile(r"(```.*?```|`[^`\n]+`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
SHELL = """```sh
ponderzoo train {name}
ponderzoo export {name} --output runs/exports
ponderzoo serve runs/exports
ponderzoo predict {name}   # in another terminal
```"""


def read_text(path):
    """The text of a file of the project."""
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def _found(pattern):
    """Paths within the project, sorted."""
    return sorted(os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, pattern)))


@functools.cache
def places():
    """Path within the project -> path within the site, of all that the site shows."""
    shown = dict(WHOLE)
    shown |= {path: path.removeprefix("docs/") for path in _found("docs/*/*.md")}
    shown |= {path: path.removeprefix("tests/") for path in _found("tests/benchmarks/*.md")}
    for path in _found("docs/notebooks/*.ipynb"):
        shown[path] = f"{path.removeprefix('docs/').removesuffix('.ipynb')}.md"
    for path in _found("zoo/pretrained/*/card.md"):
        shown[path] = f"entries/{path.split('/')[2]}.md"
    for path in _found("zoo/pretrained/*/figures/*.png"):
        shown[path] = f"entries/{path.split('/')[2]}/{os.path.basename(path)}"
    return shown


def linked(markdown, folder, place):
    """A text of a folder of the project at a place in the site, whose links lead there as well.

    Raises `ValueError` for a link to what the site does not show.
    """
    known = places()

    def link(found):
        shown, target = found.groups()
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        path, hash_sign, anchor = target.partition("#")
        path = posixpath.normpath(posixpath.join(folder, path))
        if path not in known:
            raise ValueError(f"{place} links to {target}, which is no page of the site")
        there = posixpath.relpath(known[path], posixpath.dirname(place) or ".")
        return f"{shown}({there}{hash_sign}{anchor})"

    return LINK.sub(link, markdown)


def with_maths(markdown):
    """Formulas between dollars as MathML, which browsers draw without a script."""

    def formula(found):
        code, block, line = found.groups()
        if code:
            return code
        if block:
            return convert(TAG.sub(r"\\qquad(\1)", block), display="block")
        return f"<span>{convert(line)}</span>"  # which is no block where it begins a line

    return MATHS.sub(formula, markdown)


@functools.cache
def papers():
    """arXiv number -> front matter, path and first sentence of the page that a paper has."""
    pages = {}
    for path in _found("docs/papers/*.md"):
        text, meta = get_data(read_text(path))
        _, sentence, *_ = text.strip().split("\n\n")
        pages[meta["arxiv"]] = {**meta, "path": path, "sentence": " ".join(sentence.split())}
    return pages


def entries_of(arxiv):
    """The entries of a paper, those with weights first."""
    entries = (zoo.info(name) for name in zoo.list())
    found = [entry for entry in entries if entry.paper.arxiv == arxiv]
    return sorted(found, key=lambda entry: not entry.metrics)


def picture_of(arxiv):
    """The path of the picture that a paper's page names, or of one of its entries, or None."""
    chosen = papers()[arxiv].get("picture")
    if chosen:
        return f"zoo/pretrained/{chosen}"
    for entry in entries_of(arxiv):
        if entry.metrics:
            picture = entry.origin(zoo.task_of(entry)).get("picture")
            if picture:
                return f"zoo/pretrained/{entry.name}/{picture}"
    return None


def public():
    """The public layers and functions by their names."""
    return {
        name: thing
        for name, thing in sorted(vars(layers).items())
        if getattr(thing, "__module__", "").startswith(f"{layers.__name__}.")
    }


def layers_of(arxiv):
    """Name -> module of the public layers and functions whose docstrings name a paper."""
    things = public().items()
    return {name: x.__module__ for name, x in things if f"arXiv:{arxiv}" in inspect.getdoc(x)}


def about(arxiv):
    """What is made for the page of a paper, as a text of the project's folder `docs/papers`."""
    entries, parts, picture = entries_of(arxiv), [], picture_of(arxiv)
    if picture:
        parts += [f"![{picture.split('/')[2]}](../../{picture})"]
    if entries:
        entry, trained = entries[0], [one.name for one in entries if one.metrics]
        load = f'```python\nfrom ponderzoo import zoo\n\nmodel = zoo.load("{entry.name}")\n```'
        parts += ["## In use", *([load] if trained else []), SHELL.format(name=entry.name)]
        parts += ["## Results"]
        if trained:
            parts += [results_table(trained).replace("(zoo/", "(../../zoo/")]
        parts += [without_weights([one.name for one in entries])]
    named = layers_of(arxiv)
    if named:
        parts += ["## Layers"]
        parts += [", ".join(f"[`{name}`][{module}.{name}]" for name, module in named.items()) + "."]
    return "\n\n".join(filter(None, parts))


def cited(arxiv):
    """The citation of a paper that has entries, markdown."""
    for entry in entries_of(arxiv)[:1]:
        paper = entry.paper
        link = f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv})"
        return f"{paper.authors}, {link}, {paper.year}."
    return f"[arXiv:{arxiv}](https://arxiv.org/abs/{arxiv})."


def gallery():
    """A page with a picture of each paper."""
    cards, shown = [], places()
    for arxiv, page in papers().items():
        picture, title, place = picture_of(arxiv), page["title"], shown[page["path"]]
        lines = [f"[![{title}]({shown[picture]})]({place})"] if picture else []
        lines += [f"**[{title}]({place})**"]
        lines += [page["sentence"]]
        cards.append("-   " + "\n\n    ".join(lines))
    listed = "\n\n".join(cards)
    return f'# Gallery\n\n<div class="grid cards" markdown>\n\n{listed}\n\n</div>\n'


def comparisons():
    """A page with a table of each task that models of several papers learnt."""
    parts = ["# Side by side", "What models of several papers made of the same task."]
    for task, names in tasks_of_several_papers().items():
        sentence = inspect.getdoc(type(trainers.task(task))).split("\n\n")[0]
        table = side_by_side(names).replace("(zoo/", "(")
        parts += [f"## {task}", sentence, linked(table, "zoo", "comparisons.md")]
    return "\n\n".join(parts) + "\n"


def reference():
    """Path within the site -> markdown, a page a file of the layers, and one a room else."""
    modules = sorted({thing.__module__ for thing in public().values()})
    pages = {f"reference/layers/{m.rpartition('.')[2]}.md": f"::: {m}\n" for m in modules}
    tasks = {type(trainers.task(name)).__module__ for name in trainers.tasks()}
    ours = sorted(module for module in tasks if module.startswith("ponderzoo."))
    ways = [f"ponderzoo.trainers.learning.{name}" for name in _rooms.names(learning.__name__)]
    training = [f"ponderzoo.trainers.{name}" for name in ("_fit", "_task", "_recipe", "_teacher")]
    many = {"Zoo": ["ponderzoo.zoo._registry"], "Training": [*training, *ways], "Tasks": ours}
    many |= {"Client": ["ponderzoo.export.client"]}
    for title, listed in many.items():
        parts = [f"# {title}", *(f"::: {m}\n    options:\n      heading_level: 2" for m in listed)]
        pages[f"reference/{title.lower()}.md"] = "\n\n".join(parts) + "\n"
    return pages


def run_notebook(notebook):
    """Runs a notebook from top to bottom, in a directory of its own; it keeps the outputs."""
    programs = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
    with tempfile.TemporaryDirectory() as home:
        client = NotebookClient(
            notebook,
            timeout=600,
            resources={"metadata": {"path": home}},
            coalesce_streams=True,
        )
        environment = {**os.environ, "PATH": programs}
        client.execute(env=environment, stderr=subprocess.DEVNULL)


@functools.cache
def notebook_page(text, place, runs):
    """The page of a notebook, markdown, and its pictures: path within the site -> content."""
    notebook, name = nbformat.reads(text, as_version=4), posixpath.basename(place)[:-3]
    if runs:
        run_notebook(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, "docs/notebooks", place)
        else:  # TensorFlow tells of processors on stderr
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    body, made = MarkdownExporter().from_notebook_node(
        notebook, {"unique_key": name, "output_files_dir": name}
    )
    title = re.search("^# (.*)", body, re.MULTILINE)[1]
    body = f"{body.replace('![png]', f'![{title}]')}\nThe notebook: [{name}.ipynb]({name}.ipynb)\n"
    return body, {f"notebooks/{path}": content for path, content in made["outputs"].items()}


def on_startup(command, dirty):
    """Puts the rooms under one roof, where the reference looks for them."""
    roof = os.path.join(ROOT, "runs", "reference", "ponderzoo")
    os.makedirs(roof, exist_ok=True)
    with open(os.path.join(roof, "__init__.py"), "w"):
        pass  # a package, since a script of the same name is on the path
    for room in ROOMS:
        if not os.path.islink(link := os.path.join(roof, room)):
            os.symlink(os.path.join(ROOT, room), link)


def on_config(config):
    """The navigation, of what there is now: a site that is served is built again and again."""
    places.cache_clear()
    papers.cache_clear()
    entries = [path for path in places().values() if re.fullmatch(r"entries/[^/]+\.md", path)]
    made = list(reference())
    of_layers = [path for path in made if "/layers/" in path]
    config.nav = [
        {"ponderzoo": "index.md"},
        {"Gallery": "gallery.md"},
        {"Guides": [f"guides/{name}.md" for name in GUIDES]},
        {"Notebooks": [path for path in places().values() if path.startswith("notebooks/")]},
        {"Papers": [page["path"].removeprefix("docs/") for page in papers().values()]},
        {"Entries": ["comparisons.md", *sorted(entries)]},
        {"Reference": [{"Layers": of_layers}, *(path for path in made if path not in of_layers)]},
        {"Project": [*list(WHOLE.values())[1:], {"Benchmarks": _benchmarks()}]},
    ]
    return config


def _benchmarks():
    return sorted(path for path in places().values() if path.startswith("benchmarks/"))


def on_files(files, config):
    """Adds the pages that are made, and those that stand elsewhere in the project."""
    made = {"gallery.md": gallery(), "comparisons.md": comparisons(), **reference()}
    for source, place in places().items():
        if source.endswith(".png"):
            path = os.path.join(ROOT, source)
            files.append(File.generated(config, place, abs_src_path=path))
        elif source.endswith(".ipynb"):
            runs = config.extra["run_notebooks"]
            made[place], pictures = notebook_page(read_text(source), place, runs)
            made |= pictures
        elif not source.startswith("docs/"):
            text = read_text(source)
            if source == "LICENSE":
                text = f"# Licence\n\n```\n{text}\n```\n"
            made[place] = linked(text, posixpath.dirname(source), place)
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """The guides' links, and what is made for the pages of papers."""
    place = page.file.src_uri
    folder = posixpath.join("docs", posixpath.dirname(place))
    if place.startswith("guides/"):
        return linked(markdown, folder, place)
    if not place.startswith("papers/"):
        return markdown
    arxiv = page.meta["arxiv"]
    head, _, rest = markdown.strip().partition("\n\n")
    made = linked(about(arxiv), folder, place)
    return f"{head}\n\n{cited(arxiv)}\n\n{with_maths(rest)}\n\n{made}\n"
