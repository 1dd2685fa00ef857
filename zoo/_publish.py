"""A finished run becomes the pretrained files of its entry: weights, numbers, figures and card."""

import dataclasses
import hashlib
import io
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
from ._registry import info, list_entries, task_of

VERSION = "1"
MOST_EVENT_BYTES = 300_000
MOST_POINTS = 200
GOLDEN_ROWS = 4
FACTS = ("seed", "updates", "batch_size", "minutes", "hardware", "backend", "commit")
SPELLED = {
    "ponder": "ponder (updates N per input)",
    "at_cap": "inputs stopped by the cap of N",
    "rho": "N + R",
}
CAPTIONS = {
    "compression": "In bits per character, on one stretch of the test split: the model, and bzip2 "
    "-9 and xz -9e on the same bytes and on the whole text.",
    "ponder_by_class": "By the kind of byte that was read; the bits are those of the next byte.",
    "ponder_over_text": "Ponder, surprise at the next byte and entropy of its prediction over a "
    "passage of the test split; spaces are shaded.",
    "ponder_per_step": "Updates N and remainder R at every step of one row.",
}
MARKED = re.compile("(<!-- results:begin -->\n).*?(<!-- results:end -->)", re.DOTALL)


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
        finished = os.path.join(directory, "metrics.json")
        if not os.path.exists(os.path.join(directory, "config.json")):
            raise ValueError(f"{directory} holds no run: it has no config.json")
        if not os.path.exists(finished):
            raise ValueError(f"{directory} holds a run that is not finished: no metrics.json")
        metrics = read_json(finished)
        if "failed" in metrics:
            raise ValueError(f"{directory} holds a failed run: {metrics['failed']}")
        config = read_json(os.path.join(directory, "config.json"))
        # A setting that is younger than the run had its default's effect.
        config["train"] = dataclasses.asdict(Recipe()) | config["train"]
        task = find_task(config["task"], **config["task_config"])
        return cls(directory, info(config["entry"]), task, config, metrics)

    def load(self):
        return keras.saving.load_model(os.path.join(self.directory, "model.keras"))

    @property
    def measures(self):
        """Names of the measured metrics; the first is the task's own error."""
        names = [metric.name for some in self.task.metrics().values() for metric in some]
        return [name for name in (*names, "ponder", "at_cap") if name in self.metrics]

    @property
    def history(self):
        """The learning curve: not too many rows, five digits."""
        rows = _thinned(read_json(os.path.join(self.directory, "history.json")))
        return [{key: float(f"{value:.5g}") for key, value in row.items()} for row in rows]

    @property
    def settings(self):
        """What differs from the registered entry, in the words that `--set` takes."""
        groups = {
            "model": (self.config["config"], self.entry.config),
            "recipe": (self.config["train"], dataclasses.asdict(Recipe.parse(self.entry.train))),
            "task": (self.config["task_config"], dataclasses.asdict(task_of(self.entry))),
        }
        keys = [key for mine, _ in groups.values() for key in mine]
        changed = []
        for group, (mine, registered) in groups.items():
            for key, value in mine.items():
                if key not in registered:
                    raise ValueError(f"{self.directory} has a {group}.{key}, which is unknown now")
                if value != json.loads(json.dumps(registered[key])):
                    name = key if keys.count(key) == 1 else f"{group}.{key}"
                    text = str(value) if isinstance(value, (str, int, float)) else json.dumps(value)
                    changed.append(f"{name}={text}")
        return changed

    def command(self, run_dir=None):
        """The line that repeats the run."""
        words = ["ponderzoo", "train", self.entry.name]
        words += ["--run_dir", run_dir] if run_dir else []
        words += ["--set", *self.settings] if self.settings else []
        return f"KERAS_BACKEND={self.metrics['backend']} {shlex.join(words)}"


def publish(run_dir, baseline=None, sweep=None, output=None):
    """Writes `output/<entry>/` from a run; what stood there stays until everything is written.

    Args:
        run_dir: a finished run.
        baseline: a finished run of the same entry, task and size without the paper's mechanism.
        sweep: a directory of runs of the entry, of several time penalties.
        output: directory of all entries, the zoo's own by default.

    Returns:
        The directory that was written.

    Raises:
        RuntimeError: Keras runs on another backend than TensorFlow.
        ValueError: a run is not finished, does not fit, or has files that do not suit the zoo.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "the numbers of pretrained files are those of TensorFlow, "
            f"this is {keras.backend.backend()}; publish under KERAS_BACKEND=tensorflow"
        )
    ours, plain = Run.read(run_dir), Run.read(baseline) if baseline else None
    _check_portable(ours)
    models = [run.load() for run in (ours, plain) if run]
    if plain:
        _check_baseline(ours, plain, *models)
    rows = _read_sweep(sweep, ours) if sweep else []

    home = ours.entry.directory
    if output:
        home = os.path.join(output, ours.entry.name)
    if os.path.exists(home) and not os.path.exists(os.path.join(home, "card.md")):
        raise ValueError(f"{home} holds something else than an entry: it has no card.md")
    draft = os.path.join(os.path.dirname(home), f".{ours.entry.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(draft, ours, plain, models, rows)
        _replace(home, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home


def _check_portable(run):
    for key, value in {**run.config["config"], **run.config["task_config"]}.items():
        if isinstance(value, str) and os.path.isabs(value):
            raise ValueError(f"{run.directory} has {key}={value}, a path that others do not have")


def _check_baseline(ours, plain, model, plain_model):
    said = f"{plain.directory} is no baseline of {ours.directory}"
    if plain.entry.name != ours.entry.name:
        raise ValueError(f"{said}: it is a run of {plain.entry.name}, not of {ours.entry.name}")
    if plain.task != ours.task:
        raise ValueError(f"{said}: its task is {plain.task}, not {ours.task}")
    if plain.config["config"] == ours.config["config"]:
        raise ValueError(f"{said}: it is the same model")
    sizes = plain_model.count_params(), model.count_params()
    if sizes[0] != sizes[1]:
        raise ValueError(f"{said}: it has {sizes[0]} parameters, not {sizes[1]}")


def _read_sweep(directory, ours):
    """A row for each finished run: its time penalty (None without ACT), error, ponder, command.

    `task` is what the task of the sweep has other than that of `ours`.
    """
    rows = []
    for name in sorted(os.listdir(directory)):
        try:
            run = Run.read(os.path.join(directory, name))
        except ValueError:
            continue
        if run.entry.name != ours.entry.name:
            raise ValueError(f"{run.directory} is a run of {run.entry.name}, not a part of a sweep")
        config, task = run.config["config"], dataclasses.asdict(run.task)
        row = {
            "time_penalty": config.get("time_penalty") if config.get("max_ponder") != 1 else None,
            "task": {k: v for k, v in task.items() if v != getattr(ours.task, k)},
        }
        row |= {key: run.metrics[key] for key in ("seed", "updates", ours.measures[0], "ponder")}
        rows.append({**row, "command": run.command()})
    if not any(row["time_penalty"] is not None for row in rows):
        raise ValueError(f"{directory} holds no finished run with a time penalty")
    if any(row["task"] != rows[0]["task"] for row in rows):
        raise ValueError(f"{directory} holds runs of several tasks, which do not compare")
    return rows


def _write(draft, ours, plain, models, rows):
    def place(*names):
        return os.path.join(draft, *names)

    os.makedirs(draft)
    shutil.copyfile(os.path.join(ours.directory, "model.keras"), place("model.keras"))
    write_file(place("logs", EVENTS), _events(os.path.join(ours.directory, "logs", EVENTS)))
    write_json(place("config.json"), ours.config)
    np.savez_compressed(place("golden.npz"), **golden(models[0], ours.task))

    with open(place("model.keras"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    metrics = {**ours.metrics, "version": VERSION, "sha256": digest, "command": ours.command()}
    metrics |= _measure(models[0], ours.task)
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
    megabytes = os.path.getsize(place("model.keras")) / 1e6
    write_file(place("card.md"), _card(ours, metrics, histories, figures, megabytes))


def _events(path):
    """The content of an event file with not too many points a curve.

    Raises `ValueError` where that is too long all the same.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    events = [Event.FromString(record) for record in RawEventFileLoader(path).Load()]
    curves = {}
    for index, event in enumerate(events):
        for value in event.summary.value:
            kind = value.metadata.plugin_data.plugin_name
            if kind == "scalars":
                curves.setdefault(value.tag, []).append(index)
            elif kind == "images" and not value.tag.startswith("figures/"):
                # A curve may have the same name, and TensorBoard shows one kind a name.
                value.tag = f"figures/{value.tag}"
    left_out = {i for points in curves.values() for i in {*points} - {*_thinned(points)}}
    content = io.BytesIO()
    records = RecordWriter(content)
    for index, event in enumerate(events):
        if index not in left_out:
            records.write(event.SerializeToString())
    if content.tell() >= MOST_EVENT_BYTES:
        raise ValueError(
            f"{path} makes {content.tell()} bytes, {MOST_EVENT_BYTES} or more; "
            "train with fewer histograms"
        )
    return content.getvalue()


def _thinned(rows):
    """`MOST_POINTS` of the rows or fewer, with the first and the last."""
    kept = np.linspace(0, len(rows) - 1, min(len(rows), MOST_POINTS)).round().astype(int)
    return [rows[index] for index in kept]


def golden(model, task):
    """A small batch, always the same, and what a model makes of it.

    Returns:
        Dict of arrays: `input/<name>` and, in float32, `output/<name>`.
    """
    rng = np.random.default_rng(0)
    if hasattr(task, "inputs_without_data"):
        inputs = task.inputs_without_data(rng, GOLDEN_ROWS)
    else:
        inputs, _ = task.batch(rng, GOLDEN_ROWS)
    outputs = model.predict_on_batch(inputs)
    return {
        **{f"input/{name}": value for name, value in inputs.items()},
        **{f"output/{name}": np.asarray(value, "float32") for name, value in outputs.items()},
    }


def _measure(model, task):
    """Size, what the task reports of a model, and error and ponder against difficulty."""
    measured = {"parameters": model.count_params()}
    if hasattr(task, "report"):
        measured |= task.report(model)
    if task.difficulties:
        measured["difficulty"] = sweep_difficulty(model, task)
    return measured


def _names(entry):
    """What the model and its baseline are called: ("ACT", "without ACT")."""
    mechanism = entry.name.partition("_")[0].upper()
    return mechanism, f"without {mechanism}"


def _both(metrics):
    return [metrics, metrics["baseline"]] if "baseline" in metrics else [metrics]


def _draw(ours, model, metrics, histories):
    first = ours.measures[0]
    figures = ours.task.figures(model) if hasattr(ours.task, "figures") else {}
    if "difficulty" in metrics:
        sweeps = {name: m["difficulty"] for name, m in zip(_names(ours.entry), _both(metrics))}
        figures["difficulty"] = _figures.difficulty(sweeps, ours.task.axis, first)
    figures["learning_curves"] = _figures.learning_curves(histories)
    if "sweep" in metrics:
        rows = metrics["sweep"]
        same = "baseline" in metrics and not rows[0]["task"]
        if same and all(row["time_penalty"] is not None for row in rows):
            rows = [*rows, {**metrics["baseline"], "time_penalty": None}]
        figures["penalties"] = _figures.penalties(rows, first)
    return figures


def _replace(home, draft):
    """Gives the directory `draft` the name `home`; what stood there is removed after that."""
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


def _card(ours, metrics, histories, figures, megabytes):
    entry, paper, both = ours.entry, ours.entry.paper, _both(metrics)
    heads = ["ours", f"baseline {_names(entry)[1]}"][: len(both)]
    captions = {**CAPTIONS, **_seen(ours, metrics, histories)}
    settings = {**ours.config["config"], **ours.config["task_config"]}
    data = getattr(ours.task, "corpus", None) or f"generated by the task `{ours.task.name}`"
    results = [
        [_spelled(name), "", *(_shown(name, one[name]) for one in both)]
        for name in (*ours.measures, "parameters")
    ]
    results[0][1] = entry.paper_result

    parts = [
        f"# {entry.name}",
        f"{paper.authors}, [{paper.title}](https://arxiv.org/abs/{paper.arxiv}), {paper.year}: "
        f"the task `{entry.task}`.",
        "```python\nimport keras\nfrom ponderzoo import zoo\n\n"
        f'model = keras.saving.load_model(zoo.path("{entry.name}"))\n```',
        f"{metrics['parameters']:,} weights, float32, {megabytes:.2f} MB. Settings: "
        + ", ".join(f"{_spelled(k)} {v}" for k, v in settings.items() if v != "")
        + ".",
        "## Results",
        _table(["", "paper", *heads], results),
        f"Ours on {ours.config['train']['evaluation_rows']:,} fresh rows of the test split.",
    ]
    for name, report in metrics.items():
        if isinstance(report, dict) and name not in ("train", "baseline"):
            parts += [f"### {_spelled(name).capitalize()}", captions.get(name, "")]
            parts += [_report(report, [m[name] for m in both], heads)]
    parts += ["## Figures"]
    for name in sorted(figures):
        parts += [f"![{_spelled(name)}](figures/{name}.png)", captions.get(name, "")]
    parts += ["## Training", f"```sh\n{metrics['command']}\n```"]
    if len(both) > 1:
        parts += [f"The baseline:\n\n```sh\n{both[1]['command']}\n```"]
    facts = [[_spelled(name), *(_shown(name, m[name]) for m in both)] for name in FACTS]
    parts += [f"Data: {data}.", _table(["", *heads], facts)]
    if entry.notes:
        parts += ["## Notes", entry.notes.strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _seen(ours, metrics, histories):
    """What the figures show, in a sentence each."""
    first, without, both = ours.measures[0], _names(ours.entry)[1], _both(metrics)
    seen = {}
    if "difficulty" in metrics:
        ends = [[m["difficulty"][i] for i in (0, -1)] for m in both]
        errors = [" to ".join(_shown(first, point[first]) for point in two) for two in ends]
        low, high = ends[0]
        seen["difficulty"] = (
            f"From {low['difficulty']} to {high['difficulty']} {ours.task.axis}, the "
            f"{_spelled(first)} goes from {errors[0]}"
            + (f" ({without} from {errors[1]})" if len(both) > 1 else "")
            + (f", the ponder from {low['ponder']:.2f} to {high['ponder']:.2f}" * ("ponder" in low))
            + f"; {low['rows']:,} rows a point, the band is the standard deviation of N."
        )
    history = next(iter(histories.values()))
    hardest = [row["difficulty"] for row in history if "difficulty" in row]
    seen["learning_curves"] = "Error and ponder on the training batches" + (
        f", while the curriculum goes from {hardest[0]:g} to {hardest[-1]:g} {ours.task.axis}."
        if hardest
        else "."
    )
    if "sweep" in metrics:
        runs = [row for row in metrics["sweep"] if row["time_penalty"] is not None]
        best = min(runs, key=lambda row: row[first])
        lengths = " or ".join(f"{n:,}" for n in sorted({row["updates"] for row in runs}))
        task = ", ".join(f"{_spelled(k)} {v}" for k, v in best["task"].items())
        seen["penalties"] = (
            f"{len(runs)} runs of {lengths} updates{f' on the task with {task}' * bool(task)}: "
            f"the best, {_shown(first, best[first])}, has the time penalty "
            f"{best['time_penalty']:g} and a ponder of {best['ponder']:.2f}. A run is repeated by "
            f"`{best['command']}`."
        )
    return seen


def _report(report, all_reports, heads):
    """A table of plain numbers, ours beside the baseline's; or of ours alone, a row a dict."""
    if not any(isinstance(value, dict) for value in report.values()):
        rows = [[_spelled(n), *(_shown(n, one[n]) for one in all_reports)] for n in report]
        return _table(["", *heads], rows)
    columns = list(dict.fromkeys(name for row in report.values() for name in row))
    rows = [[kind, *(_shown(n, row.get(n, "")) for n in columns)] for kind, row in report.items()]
    return _table(["", *map(_spelled, columns)], rows)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    cells = [[re.sub(r"([|<])", r"\\\1", str(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _spelled(name):
    return SPELLED.get(name, name.replace("_", " "))


def _shown(name, value):
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if name.endswith(("error", "at_cap", "share")):
        return f"{100 * value:.3g} %"
    return f"{value:.2f}" if name in ("ponder", "rho", "minutes") else f"{value:.3f}"


def results_table():
    """The pretrained entries and their numbers, a markdown table."""
    rows = []
    for entry in map(info, list_entries()):
        metrics = entry.metrics
        if metrics:
            (first, *_), *_ = task_of(entry).metrics().values()
            results = [_shown(first.name, one[first.name]) for one in _both(metrics)]
            rows.append(
                [
                    f"[{entry.name}](zoo/pretrained/{entry.name}/card.md)",
                    entry.task,
                    entry.paper_result,
                    f"{results[0]} {_spelled(first.name)}",
                    *(results[1:] or [""]),
                    _shown("ponder", metrics.get("ponder", "")),
                    f"{entry.bytes / 1e6:.2f}",
                    _shown("minutes", metrics["minutes"]),
                ]
            )
    heads = ["entry", "task", "paper", "ours", "baseline", "mean ponder", "MB", "minutes"]
    return _table(heads, rows)


def write_results(path):
    """Puts `results_table` between the marks of a markdown file, which is all that changes.

    Raises `ValueError` where the file has no `<!-- results:begin -->` and `<!-- results:end -->`.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not MARKED.search(text):
        raise ValueError(f"{path} has no <!-- results:begin --> and <!-- results:end --> lines")
    write_file(path, MARKED.sub(lambda found: f"{found[1]}{results_table()}\n{found[2]}", text))
