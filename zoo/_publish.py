"""A finished run becomes the pretrained files of its entry: weights, numbers, figures and card."""

import dataclasses
import glob
import hashlib
import io
import json
import os
import shutil

import keras
import numpy as np

from ..trainers._evaluate import asked, drawn_difficulty, measure, outputs_of, words_of
from ..trainers._events import EVENTS
from ..trainers._files import write_file, write_json
from ..trainers._machine import DIRTY
from ..trainers.figures import _panels, curves
from ._card import both_of, card_of, names_of, spelled
from ._trained import Run, thinned

VERSION = "1"
SWEPT = ("sweep", "seeds", "settings")  # what `metrics.json` may have of a sweep
MOST_EVENT_BYTES = 300_000
MOST_FIGURE_BYTES = 80_000
DRAWN_HERE = ("learning_curves", "penalties", "trade_off", "difficulty")  # from numbers

GOLDEN_ROWS = 4


def publish(run_dir, baseline=None, sweep=None, output=None):
    """Writes `output/<entry>/` from a run; what stood there stays until everything is written.

    Args:
        run_dir: a finished run; or a published entry, whose numbers stay, with those of its
            baseline and of its sweep where no others are given.
        baseline: a finished run of the same entry, task and size without the paper's mechanism.
        sweep: a directory of runs of the entry: of several values of the setting that trades off;
            or, where it has none, of several seeds, of other settings, or of both.
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
    first = ours.task.measured[0]
    _check_portable(ours)
    if not output:
        _check_commits(*filter(None, (ours, plain)))
    models = [run.load() for run in (ours, plain) if run]
    if plain:
        _check_baseline(ours, plain, *models)
    seeds, variants, rows = [], {}, []
    if sweep and ours.entry.trade_off:
        rows = _read_sweep(sweep, ours, first)
    elif sweep:
        seeds, variants = _read_variants(sweep, ours)

    home = ours.entry.directory
    if output:
        home = os.path.join(output, ours.entry.name)
    if os.path.exists(home) and not os.path.exists(os.path.join(home, "card.md")):
        raise ValueError(f"{home} holds something else than an entry: it has no card.md")
    draft = os.path.join(os.path.dirname(home), f".{ours.entry.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(draft, ours, plain, models, rows, seeds, variants)
        _replace(home, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home


def _check_portable(run):
    for key, value in {**run.config["config"], **run.config["task_config"]}.items():
        if isinstance(value, str) and os.path.isabs(value):
            raise ValueError(f"{run.directory} has {key}={value}, a path that others do not have")


def _check_commits(*runs):
    """What the zoo ships must be what its history can train."""
    for run in runs:
        if str(run.metrics["commit"]).endswith(DIRTY):
            raise ValueError(
                f"{run.directory} was trained at {run.metrics['commit']}, with changes that nobody "
                "else has; train from a clean checkout"
            )


def _check_baseline(ours, plain, model, plain_model):
    said = f"{plain.directory} is no baseline of {ours.directory}"
    if plain.entry.name != ours.entry.name:
        raise ValueError(f"{said}: it is a run of {plain.entry.name}, not of {ours.entry.name}")
    if plain.task != ours.task:
        raise ValueError(f"{said}: its task is {plain.task}, not {ours.task}")
    if plain.config["config"] == ours.config["config"]:
        raise ValueError(f"{said}: it is the same model")
    sizes = plain_model.count_params(), model.count_params()
    if sizes[0] != sizes[1] and not ours.entry.baseline:
        raise ValueError(f"{said}: it has {sizes[0]} parameters, not {sizes[1]}")


def _read_sweep(directory, ours, first):
    """A row for each finished run: the setting that trades off, error, measure, command.

    The setting is None without the paper's mechanism; `task` is what the task of the sweep has
    other than that of `ours`.
    """
    setting, measure = ours.entry.trade_off
    rows = []
    for name in sorted(os.listdir(directory)):
        try:
            run = Run.read(os.path.join(directory, name))
        except ValueError:
            continue
        if run.entry.name != ours.entry.name:
            raise ValueError(f"{run.directory} is a run of {run.entry.name}, not a part of a sweep")
        config, task = run.config["config"], dataclasses.asdict(run.task)
        plain = ours.entry.plain.items() <= config.items()
        row = {
            setting: None if plain else config.get(setting),
            "task": {k: v for k, v in task.items() if v != getattr(ours.task, k)},
        }
        row |= {key: run.metrics[key] for key in ("seed", "updates", first, measure)}
        rows.append({**row, "command": run.command()})
    if not any(row[setting] is not None for row in rows):
        raise ValueError(f"{directory} holds no finished run with a {spelled(setting)}")
    if any(row["task"] != rows[0]["task"] for row in rows):
        raise ValueError(f"{directory} holds runs of several tasks, which do not compare")
    return rows


def _read_variants(directory, ours):
    """The finished runs of an entry: those that differ in their seed, and those in other settings.

    Returns:
        `ours` and its like, the seeds in their order, or an empty list where there is but one; and
        of the others a dict: what `--set` takes besides the seed -> list of runs.
    """
    runs, variants = {ours.metrics["seed"]: ours}, {}
    for name in sorted(os.listdir(directory)):
        try:
            run = Run.read(os.path.join(directory, name))
        except ValueError:
            continue
        if run.entry.name != ours.entry.name:
            raise ValueError(f"{run.directory} is a run of {run.entry.name}, not a part of a sweep")
        if run.kind == ours.kind:
            runs.setdefault(run.metrics["seed"], run)
        else:
            settings = " ".join(text for text in run.settings if not text.startswith("seed="))
            variants.setdefault(settings, []).append(run)
    if len(runs) == 1 and not variants:
        raise ValueError(f"{directory} holds no finished run with another seed or other settings")
    return [run for _, run in sorted(runs.items())] if len(runs) > 1 else [], variants


def _summary(runs, measures):
    """A row of the card for runs that differ in their seed alone."""
    measure = measures[0]
    values = [run.metrics[measure] for run in runs]
    seeds = ", ".join(str(seed) for seed in sorted(run.metrics["seed"] for run in runs))
    told = [{**run.metrics, **run.recipe.summary(run.metrics)} for run in runs]
    spread = {f"least_{measure}": min(values), f"greatest_{measure}": max(values)}
    return {
        "seeds": seeds,
        f"mean_{measure}": float(np.mean(values)),
        **(spread if len(runs) > 1 else {}),
        **{
            f"mean_{name}": float(np.mean([found[name] for found in told]))
            for name in (*measures[1:], *runs[0].recipe.summary(runs[0].metrics))
            if all(name in found for found in told)
        },
        "updates": runs[0].metrics["updates"],
        "minutes": sum(run.metrics["minutes"] for run in runs) / len(runs),
    }


def _write(draft, ours, plain, models, rows, seeds, variants):
    def place(*names):
        return os.path.join(draft, *names)

    os.makedirs(draft)
    shutil.copyfile(os.path.join(ours.directory, "model.keras"), place("model.keras"))
    write_file(place("logs", EVENTS), _events(os.path.join(ours.directory, "logs", EVENTS)))
    write_json(place("config.json"), ours.config)
    published = os.path.join(ours.directory, "golden.npz")
    if os.path.exists(published):
        shutil.copyfile(published, place("golden.npz"))
    else:
        np.savez_compressed(place("golden.npz"), **golden(models[0], ours.task))

    with open(place("model.keras"), "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    told = words_of(ours.entry.measures(models[0]))
    found, drawn = _measured(ours, models[0])
    metrics = {**found, "version": VERSION, "sha256": digest, "command": ours.command()}
    swept = rows or seeds or variants
    if swept:
        metrics = {name: value for name, value in metrics.items() if name not in SWEPT}
    if plain:
        command = plain.command(run_dir=f"runs/{ours.entry.name}-baseline")
        metrics["baseline"] = {**_measured(plain, models[1])[0], "command": command}
    if rows:
        metrics["sweep"] = rows
    measures = [n for n in (*ours.task.measured, *told) if n in ours.metrics]
    if seeds:
        keys = ("updates", *measures, "minutes")
        metrics["seeds"] = {
            str(run.metrics["seed"]): {key: run.metrics[key] for key in keys} for run in seeds
        }
    rows_of = {"as registered": seeds or [ours], **variants}
    if variants:
        metrics["settings"] = {
            settings: _summary(runs, measures) for settings, runs in rows_of.items()
        }
    write_json(place("metrics.json"), metrics)

    found = [ours.history, plain.history] if plain else ours.histories
    histories = dict(zip(names_of(ours.entry), found))
    write_file(place("history.json"), json.dumps(histories) + "\n")
    figures = _draw(ours, told, metrics, histories)
    if plain:
        figures |= ours.task.beside(dict(zip(names_of(ours.entry), models)))
    if seeds:
        of_seeds = {f"seed {run.metrics['seed']}": run for run in seeds}
        figures["learning_curves_of_seeds"] = _curves_of(of_seeds, measures[0])
    if variants:
        of_settings = {settings: runs[0] for settings, runs in rows_of.items()}
        figures["learning_curves_of_settings"] = _curves_of(of_settings, measures[0])
    if len(rows_of) > 1:
        kinds = {name: [run.directory for run in runs] for name, runs in rows_of.items()}
        figures |= ours.recipe.compared(kinds, ours.task)
    drawn |= {name: _panels.small_png(figure) for name, figure in figures.items()}
    if not swept:
        drawn |= _curves_of_sweep(ours)
    for name, content in drawn.items():
        if len(content) > MOST_FIGURE_BYTES:
            raise ValueError(
                f"the figure {name} needs {len(content)} bytes as a PNG file, "
                f"{MOST_FIGURE_BYTES} at most"
            )
        write_file(place("figures", f"{name}.png"), content)
    megabytes = os.path.getsize(place("model.keras")) / 1e6
    write_file(place("card.md"), card_of(ours, told, metrics, histories, drawn, megabytes))


def _measured(run, model):
    """All numbers of a run, and its figures as PNG files by name: as it measured itself, once.

    A run that is older than that is measured here.
    """
    if "parameters" in run.metrics:
        drawn = {}
        for path in sorted(glob.glob(os.path.join(run.directory, "figures", "*.png"))):
            name = os.path.basename(path).removesuffix(".png")
            if not name.startswith(DRAWN_HERE):
                with open(path, "rb") as file:
                    drawn[name] = file.read()
        return run.metrics, drawn
    rows = run.config["train"]["evaluation_rows"]
    found, figures = measure(model, run.task, rows, run.entry.measures)
    return {**found, **run.metrics}, {n: _panels.small_png(f) for n, f in figures.items()}


def _curves_of(runs, measure):
    """Learning curves of runs by name, on validation rows where there are any."""
    histories = {name: run.history for name, run in runs.items()}
    first = next(iter(histories.values()))[0]
    validated = f"validation_{measure}"
    return curves.learning_curves(histories, validated if validated in first else measure)


def _curves_of_sweep(published):
    """The pictures of a published entry that only the runs of its sweep could draw again."""
    pictures = {}
    for key in SWEPT:
        name = f"learning_curves_of_{key}"
        path = os.path.join(published.directory, "figures", f"{name}.png")
        if key in published.metrics and os.path.exists(path):
            with open(path, "rb") as file:
                pictures[name] = file.read()
    return pictures


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
            elif kind == "images" and "/" not in value.tag:
                # A curve may have the same name, and TensorBoard shows one kind a name.
                value.tag = f"figures/{value.tag}"
    left_out = {i for points in curves.values() for i in {*points} - {*thinned(points)}}
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


def golden(model, task):
    """A small batch, always the same, and what a model makes of it.

    Returns:
        Dict of arrays: `input/<name>` and, in float32, `output/<name>`.
    """
    inputs = asked(model, task.inputs_without_data(np.random.default_rng(0), GOLDEN_ROWS))
    outputs = outputs_of(model, inputs)
    return {
        **{f"input/{name}": value for name, value in inputs.items()},
        **{f"output/{name}": np.asarray(value, "float32") for name, value in outputs.items()},
    }


def _draw(ours, told, metrics, histories):
    """The figures of numbers: of several models, and of several runs."""
    first, figures = ours.task.measured[0], {}
    if "difficulty" in metrics:
        sweeps = {name: m["difficulty"] for name, m in zip(names_of(ours.entry), both_of(metrics))}
        figures["difficulty"] = drawn_difficulty(sweeps, ours.task, told)
    figures["learning_curves"] = curves.learning_curves(histories, first, told)
    if "sweep" in metrics:
        (setting, measure), rows = ours.entry.trade_off, metrics["sweep"]
        same = "baseline" in metrics and not rows[0]["task"]
        if same and all(row[setting] is not None for row in rows):
            rows = [*rows, {**metrics["baseline"], setting: None}]
        without = ", ".join([names_of(ours.entry)[1], *_on_task(rows)])
        figures["trade_off"] = curves.trade_off(rows, setting, measure, first, told, without)
    return figures


def _on_task(rows):
    """What the task of a sweep has other than that of the entry, in words."""
    return [f"{value} {spelled(name)}" for name, value in rows[0]["task"].items()]


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
