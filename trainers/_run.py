"""The run directory: what is written there besides weights and events."""

import dataclasses
import io
import json
import os

import keras
import numpy as np

from ._files import read_json, write_file, write_json
from ._machine import commit, hardware
from ._recipe import Recipe


def claim(run_dir, task, recipe, description):
    """Writes `config.json`, or raises `ValueError` where there is one that differs."""
    config = {
        "entry": description.get("entry"),
        "task": task.name,
        "task_config": dataclasses.asdict(task),
        "config": description.get("config", {}),
        "train": dataclasses.asdict(recipe),
        "backend": keras.backend.backend(),
    }
    config = json.loads(json.dumps(config))
    path = os.path.join(run_dir, "config.json")
    if not os.path.exists(path):
        write_json(path, config)
        return
    there = read_json(path)
    # A setting that is younger than the run had its default's effect.
    there["train"] = dataclasses.asdict(Recipe()) | there["train"]
    there, asked = flatten(there), flatten(config)
    differing = sorted(key for key in there | asked if there.get(key) != asked.get(key))
    if differing:
        pairs = [f"{k}: {there.get(k)!r} there, {asked.get(k)!r} asked" for k in differing]
        raise ValueError(
            f"{run_dir} holds another run ({'; '.join(pairs)}); choose another run_dir"
        )


def flatten(tree, prefix=""):
    """`{"a": {"b": 1}}` to `{"a.b": 1}`."""
    flat = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def save(model, run_dir):
    """Writes `model.keras` without optimizer and compile settings, whole or not at all."""
    # A clone would be compiled as well.
    clean = type(model).from_config(model.get_config())
    clean.set_weights(model.get_weights())
    beside = os.path.join(run_dir, "backup", "model.keras")
    clean.save(beside)
    with open(beside, "rb") as file:
        write_file(os.path.join(run_dir, "model.keras"), file.read())
    os.remove(beside)


def draw(model, task, directory):
    """Writes the task's figures as `directory/<name>.png`; returns them by name."""
    figures = task.figures(model) if hasattr(task, "figures") else {}
    for name, figure in figures.items():
        write_file(os.path.join(directory, f"{name}.png"), png(figure))
    return figures


def png(figure):
    """The content of a PNG file of a matplotlib figure."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def facts(recipe, record):
    """What a reader needs to judge the numbers: size of the run, time, machine, commit."""
    rates = [recipe.steps * recipe.batch_size / h["seconds"] for h in record["history"]]
    return {
        "seed": recipe.seed,
        "updates": recipe.updates,
        "batch_size": recipe.batch_size,
        "minutes": round(record["seconds"] / 60, 2),
        "cpu_minutes": round(record["cpu_seconds"] / 60, 2),
        "examples_per_second": round(float(np.median(rates)), 1),
        "data_share": round(record["data_seconds"] / record["seconds"], 4),
        "hardware": hardware(record["cpu_seconds"] / record["seconds"]),
        "backend": keras.backend.backend(),
        "commit": commit(),
        "train": record["history"][-1],
    }
