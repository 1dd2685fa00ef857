"""A finished run becomes the pretrained files of its entry: weights, numbers, figures and card."""

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil

import keras
import numpy as np

from ..trainers import Recipe, _figures
from ..trainers import task as find_task
from ..trainers._callbacks import EVENTS, write_file, write_json
from ..trainers._evaluate import sweep as sweep_difficulty
from ..trainers._fit import read_json
from ._registry import PRETRAINED, info, list_entries, task_of

VERSION = "1"
MOST_EVENT_BYTES = 300_000
MOST_POINTS = 200
GOLDEN_ROWS = 4
SPELLED = {
    "ponder": "ponder, updates N per input",
    "at_cap": "inputs stopped by the cap of N",
}
CAPTIONS = {
    "compression": "Bits per character on one stretch of the test split; bzip2 -9 and xz -9e pack "
    "the same bytes, and, as `whole`, the whole text.",
    "ponder_by_class": "By the kind of byte that was read: mean updates N, N + R (rho), and the "
    "bits per character of the byte that follows.",
    "ponder_over_text": "Ponder, surprise at the next byte and entropy of its prediction over a "
    "passage of the test split.",
    "ponder_per_step": "Updates N and remainder R at every step of one row.",
}
RESULTS = re.compile(r"(<!-- results:begin -->\n).*?(<!-- results:end -->)", re.DOTALL)


def publish(run_dir, baseline=None, sweep=None, output=None):
    """Writes `output/<entry>/` from a run directory; what stood there stays until all is written.

    Args:
        run_dir: a finished run.
        baseline: a finished run of the same entry and task without the paper's mechanism.
        sweep: a directory of runs of the entry with several time penalties.
        output: directory of all entries, the zoo's own by default.

    Returns:
        The directory that was written.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: a run is not finished or does not fit, or its files do not suit a package.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "publish measures on Keras's TensorFlow backend, "
            f"this is {keras.backend.backend()}; set KERAS_BACKEND=tensorflow"
        )
    runs = {"ours": Run.read(run_dir)}
    if baseline:
        runs["baseline"] = Run.read(baseline)
    ours = runs["ours"]
    ours.check_portable()
    models = {name: run.load() for name, run in runs.items()}
    if baseline:
        _check_baseline(*runs.values(), *models.values())
    penalties = Penalties.read(sweep, ours, runs.get("baseline")) if sweep else None

    home = os.path.join(output or PRETRAINED, ours.entry.name)
    if os.path.exists(home) and not os.path.exists(os.path.join(home, "card.md")):
        raise ValueError(f"{home} holds something else: it has no card.md; choose another output")
    draft = os.path.join(os.path.dirname(home), f".{ours.entry.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(draft, runs, models, penalties)
        _replace(home, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run directory."""

    directory: str
    entry: object
    task: object
    config: dict
    metrics: dict

    @classmethod
    def read(cls, directory):
        """Raises `ValueError` where there is no run, or one that failed or is not finished."""
        if not os.path.exists(os.path.join(directory, "config.json")):
            raise ValueError(f"{directory} holds no run: it has no config.json")
        config = read_json(os.path.join(directory, "config.json"))
        config["train"] = dataclasses.asdict(Recipe()) | config["train"]
        finished = os.path.join(directory, "metrics.json")
        metrics = read_json(finished) if os.path.exists(finished) else {}
        if "failed" in metrics:
            raise ValueError(f"{directory} holds a failed run: {metrics['failed']}")
        if not metrics:
            raise ValueError(f"{directory} holds a run that is not finished: no metrics.json")
        task = find_task(config["task"], **config["task_config"])
        return cls(directory, info(config["entry"]), task, config, metrics)

    def load(self):
        return keras.saving.load_model(os.path.join(self.directory, "model.keras"))

    @property
    def history(self):
        """The learning curve, thinned out and of five digits."""
        rows = read_json(os.path.join(self.directory, "history.json"))
        kept = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int)
        return [{key: float(f"{v:.5g}") for key, v in rows[i].items()} for i in kept]

    @property
    def settings(self):
        """What differs from the registered entry, as `--set` takes it: dict of texts."""
        entry = self.entry
        groups = {
            "model": (self.config["config"], entry.config),
            "recipe": (self.config["train"], dataclasses.asdict(Recipe.parse(entry.train))),
            "task": (self.config["task_config"], dataclasses.asdict(task_of(entry))),
        }
        keys = [key for mine, _ in groups.values() for key in mine]
        changed = {}
        for group, (mine, registered) in groups.items():
            for key, value in mine.items():
                if key not in registered:
                    raise ValueError(
                        f"{self.directory} has the setting {group}.{key}, unknown to {entry.name}"
                    )
                if value != json.loads(json.dumps(registered[key])):
                    name = key if keys.count(key) == 1 else f"{group}.{key}"
                    plain = isinstance(value, (str, int, float))
                    changed[name] = str(value) if plain else json.dumps(value)
        return changed

    def command(self, run_dir=None):
        """The line that repeats the run."""
        words = ["ponderzoo", "train", self.entry.name]
        words += ["--run_dir", run_dir] if run_dir else []
        return _command(self, words, self.settings)

    def check_portable(self):
        """Raises `ValueError` where the files would tell of this machine, or are too many."""
        for key, value in {**self.config["config"], **self.config["task_config"]}.items():
            if isinstance(value, str) and os.path.isabs(value):
                raise ValueError(f"{self.directory} was trained with {key}={value}, a path of here")
        size = os.path.getsize(os.path.join(self.directory, "logs", EVENTS))
        if size >= MOST_EVENT_BYTES:
            raise ValueError(
                f"the event file of {self.directory} has {size} bytes, {MOST_EVENT_BYTES} at most; "
                "train with fewer histograms"
            )


def _command(run, words, settings):
    words = words + (["--set", *(f"{k}={v}" for k, v in settings.items())] if settings else [])
    return f"KERAS_BACKEND={run.metrics['backend']} {shlex.join(words)}"


def _check_baseline(ours, plain, model, plain_model):
    said = f"{plain.directory} is no baseline of {ours.directory}"
    if plain.entry.name != ours.entry.name:
        raise ValueError(f"{said}: it is a run of {plain.entry.name}, not of {ours.entry.name}")
    if plain.task != ours.task:
        raise ValueError(f"{said}: its task is {plain.task}, not {ours.task}")
    if plain.config["config"] == ours.config["config"]:
        raise ValueError(f"{said}: it is the same model")
    if plain_model.count_params() != model.count_params():
        sizes = f"{plain_model.count_params()} parameters, not {model.count_params()}"
        raise ValueError(f"{said}: it has {sizes}")


def _read_sweep(directory, ours):
    """A row for each finished run of a sweep: time penalty (None without ACT), error, ponder."""
    rows = []
    first = ours.measures[0]
    for name in sorted(os.listdir(directory)):
        try:
            run = Run.read(os.path.join(directory, name))
        except ValueError:
            continue
        if run.entry.name != ours.entry.name:
            raise ValueError(f"{run.directory} is no run of {ours.entry.name}")
        config, metrics = run.config["config"], run.metrics
        row = {"time_penalty": None if config["max_ponder"] == 1 else config["time_penalty"]}
        row |= {key: metrics[key] for key in ("seed", "updates", first, "ponder")}
        rows.append({**row, "command": run.command()})
    if not any(row["time_penalty"] is not None for row in rows):
        raise ValueError(f"{directory} holds no finished runs with a time penalty")
    return rows


def _write(draft, ours, plain, models, rows):
    """Collects, measures, draws and writes everything of an entry into `draft`."""

    def place(*names):
        return os.path.join(draft, *names)

    os.makedirs(place("logs"))
    for names in (("model.keras",), ("logs", EVENTS)):
        shutil.copyfile(os.path.join(ours.directory, *names), place(*names))
    write_json(place("config.json"), ours.config)
    np.savez_compressed(place("golden.npz"), **golden(models[0], ours.task))

    metrics = {**ours.metrics, "version": VERSION, "sha256": _sha256(place("model.keras"))}
    metrics |= {"command": ours.command(), **_measure(models[0], ours.task)}
    if plain:
        command = plain.command(run_dir=f"runs/{ours.entry.name}-baseline")
        metrics["baseline"] = {**plain.metrics, "command": command}
        metrics["baseline"] |= _measure(models[1], plain.task)
    if rows:
        metrics["sweep"] = rows
    write_json(place("metrics.json"), metrics)

    histories = dict(zip(_names(ours.entry), [run.history for run in (ours, plain) if run]))
    write_file(place("history.json"), json.dumps(histories) + "\n")
    figures = _draw(ours, models[0], metrics, histories)
    for name, figure in figures.items():
        write_file(place("figures", f"{name}.png"), _figures.small_png(figure))
    size = os.path.getsize(place("model.keras"))
    write_file(place("card.md"), _card(ours, metrics, histories, figures, size))


def golden(model, task):
    """A small fixed batch and what the model makes of it: `input/<name>` and `output/<name>`."""
    rng = np.random.default_rng(0)
    alone = hasattr(task, "inputs_without_data")
    inputs = task.inputs_without_data(rng, GOLDEN_ROWS) if alone else task.batch(rng, GOLDEN_ROWS)[0]
    outputs = model.predict_on_batch(inputs)
    return {
        **{f"input/{name}": value for name, value in inputs.items()},
        **{f"output/{name}": np.asarray(v, "float32") for name, v in outputs.items()},
    }


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _measure(model, task):
    """Size, what the task reports of a model, and error and ponder against difficulty."""
    measured = {"parameters": model.count_params()}
    if hasattr(task, "report"):
        measured["report"] = task.report(model)
    if task.difficulties:
        measured["difficulty"] = sweep_difficulty(model, task)
    return measured


def _names(entry):
    """What the model and its baseline are called in figures."""
    mechanism = entry.name.partition("_")[0].upper()
    return mechanism, f"without {mechanism}"


def _draw(ours, model, metrics, histories):
    """The figures by name."""
    task, names, both = ours.task, _names(ours.entry), [metrics, metrics.get("baseline")]
    first = ours.measures[0]
    figures = {"learning_curves": _figures.learning_curves(histories)}
    if hasattr(task, "figures"):
        figures |= task.figures(model)
    if task.difficulties:
        sweeps = {name: one["difficulty"] for name, one in zip(names, both) if one}
        figures["difficulty"] = _figures.difficulty(sweeps, task.axis, first)
    if "sweep" in metrics:
        rows = metrics["sweep"]
        if both[1] and all(row["time_penalty"] is not None for row in rows):
            rows = [*rows, {**both[1], "time_penalty": None}]
        figures["penalties"] = _figures.penalties(rows, first)
    return figures


def _replace(home, draft):
    """Gives the directory `draft` the name `home`; what stood there goes only then."""
    old = f"{draft}.old"
    shutil.rmtree(old, ignore_errors=True)
    if os.path.exists(home):
        os.rename(home, old)
    try:
        os.rename(draft, home)
    except OSError:
        if os.path.exists(old):
            os.rename(old, home)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _card(ours, metrics, histories, figures, size):
    """The model card, markdown."""
    entry, paper, plain = ours.entry, ours.entry.paper, metrics.get("baseline")
    mechanism, without = _names(entry)
    both = [metrics, plain] if plain else [metrics]
    heads = ["ours", f"baseline {without}"][: len(both)]
    captions = {**CAPTIONS, **_said(ours, metrics, histories)}

    results = [
        [SPELLED.get(name, name.replace("_", " ")), "", *(_shown(name, m[name]) for m in both)]
        for name in ours.measures
    ]
    results[0][1] = entry.paper_result
    results.append(["parameters", "", *(f"{m['parameters']:,}" for m in both)])
    settings = {**ours.config["config"], **ours.config["task_config"]}
    facts = ("seed", "updates", "batch_size", "minutes", "hardware", "backend", "commit")
    training = [[name.replace("_", " "), *(m[name] for m in both)] for name in facts]
    data = getattr(ours.task, "corpus", None) or f"generated by the task `{ours.task.name}`"

    parts = [
        f"# {entry.name}",
        f"{paper.authors}, [{paper.title}](https://arxiv.org/abs/{paper.arxiv}) ({paper.year}), "
        f"on the task `{entry.task}`.",
        f"```python\nimport keras\nfrom ponderzoo import zoo\n\n"
        f'model = keras.saving.load_model(zoo.path("{entry.name}"))\n```',
        f"Settings: {', '.join(f'{k} {v}' for k, v in settings.items() if v != '')}. "
        f"`model.keras` has {metrics['parameters']:,} float32 weights in {size / 1e6:.2f} MB.",
        "## Results",
        _table(["", "paper", *heads], results),
        f"Measured on {ours.config['train']['evaluation_rows']:,} rows of the test split.",
    ]
    for name, report in metrics.get("report", {}).items():
        parts += [f"### {_title(name)}", captions.get(name, ""), _report(name, report, both, heads)]
    parts += ["## Figures"]
    for name in figures:
        said = captions.get(name, "")
        parts += [f"![{_title(name)}](figures/{name}.png)", said]
    parts += ["## Training", f"```\n{metrics['command']}\n```"]
    if plain:
        parts += ["The baseline:", f"```\n{plain['command']}\n```"]
    parts += [f"Data: {data}.", _table(["", *heads], training)]
    if entry.notes:
        parts += ["## Notes", entry.notes.strip()]
    return "\n\n".join(part for part in parts if part) + "\n"
