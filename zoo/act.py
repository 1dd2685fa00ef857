"""Adaptive Computation Time (Graves, 2016), arXiv:1603.08983."""

import keras

from ..layers import ACT, SequenceMask
from ..trainers._metrics import AtCap, Ponder, StepMean
from ._registry import Entry, Paper, register
from .signatures import characters

PAPER = Paper(
    mechanism="ACT",
    title="Adaptive Computation Time for Recurrent Neural Networks",
    authors="Alex Graves",
    year=2016,
    arxiv="1603.08983",
)
CELLS = {
    "lstm": keras.layers.LSTMCell,
    "gru": keras.layers.GRUCell,
    "rnn": keras.layers.SimpleRNNCell,
}
TOLD = {
    "updates": "N, the updates spent on each input, (batch, time); 0 at padding",
    "remainder": "R, the halting probability left for the last update, (batch, time)",
}


def build(task, cell, units, max_ponder, time_penalty):
    """A recurrent network that ponders (Graves, 2016, sections 2 and 3).

    Args:
        task: the task, whose inputs and targets shape the model.
        cell: "lstm", "gru" or "rnn".
        units: of the cell.
        max_ponder: M. With 1 the network is the paper's baseline, which updates once per input.
        time_penalty: tau.

    Returns:
        `keras.Model`: `sequence` and, where sequences differ in length, `lengths` in; the logits of
        the task's target, `updates` and `remainder` out.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {sorted(CELLS)}, got {cell!r}")
    inputs = {
        name: keras.Input((None, *shape[1:]) if shape else (), dtype=dtype, name=name)
        for name, (shape, dtype) in task.input_spec.items()
    }
    sequence = inputs["sequence"]
    mask = SequenceMask()(sequence, inputs["lengths"]) if "lengths" in inputs else None
    if sequence.dtype == "int32":
        sequence = keras.ops.one_hot(sequence, 256)
    act = ACT(
        CELLS[cell](units),
        max_ponder=max_ponder,
        time_penalty=time_penalty,
        return_sequences=True,
        return_ponder=True,
        name="act",
    )
    hidden, updates, remainder = act(sequence, mask=mask)
    ((name, (shape, _)),) = task.target_spec.items()
    logits = _readout(hidden, name, shape[1:], task.classes)
    return keras.Model(inputs, {name: logits, "updates": updates, "remainder": remainder})


def _readout(hidden, name, places, classes):
    """Logits `(batch, time, places, classes)`, without axes of one."""
    if places:
        heads = [keras.layers.Dense(classes, name=f"{name}_{i}") for i in range(*places)]
        return keras.ops.stack([head(hidden) for head in heads], axis=2)
    logits = keras.layers.Dense(classes, name=name)(hidden)
    return keras.ops.squeeze(logits, axis=-1) if classes == 1 else logits


def measures(model):
    """The means of N and R, and how often the cap `max_ponder` stopped the updates."""
    cap = max(layer.max_ponder for layer in model.layers if hasattr(layer, "max_ponder"))
    return {"updates": [Ponder(), AtCap(cap)], "remainder": [StepMean("remainder")]}


def text_signatures(model, task):
    """What a model of bytes serves (see `byte_signatures`), and its ponder."""
    import tensorflow as tf

    pondering, head = model.get_layer("act"), model.get_layer("next")
    layer = ACT.from_config({**pondering.get_config(), "name": "act_step", "return_state": True})
    layer.cell, layer.halting = pondering.cell, pondering.halting
    layer.build((None, None, 256))

    def run(codes, mask, state):
        hidden, h, c, updates, remainder = layer(
            tf.one_hot(codes, 256), mask=mask, initial_state=state
        )
        return head(hidden), [h, c], {"updates": updates, "remainder": remainder}

    states = {"h": (layer.cell.units,), "c": (layer.cell.units,)}
    return characters.byte_signatures(run, states, TOLD)


SHARED = {
    "paper": PAPER,
    "build": build,
    "measures": measures,
    "trade_off": ("time_penalty", "ponder"),
    "plain": {"max_ponder": 1},
    "told": TOLD,
    "small": {"units": 8, "max_ponder": 3},
}
RECIPE = {"learning_rate_schedule": "cosine", "ema": 0.998, "steps_per_epoch": 250}

register(
    Entry(
        **SHARED,
        name="act_parity",
        task="parity",
        task_config={"bits": 64},
        config={"cell": "rnn", "units": 128, "max_ponder": 20, "time_penalty": 2e-3},
        train={
            **RECIPE,
            "ema": 0.0,
            "updates": 600_000,
            "batch_size": 128,
            "curriculum": 0.1,
            "curriculum_start": 12,
        },
        paper_result="mean error below 5 % for time penalties up to 0.03; almost 40 % without ACT",
    )
)

register(
    Entry(
        **SHARED,
        name="act_logic",
        task="logic",
        config={"cell": "lstm", "units": 128, "max_ponder": 8, "time_penalty": 1e-2},
        train={**RECIPE, "decay_from": 0.6, "updates": 48_000, "batch_size": 64, "curriculum": 0.1},
        paper_result="practically zero for time penalties up to 0.01; about 0.2 without ACT",
    )
)

register(
    Entry(
        **SHARED,
        name="act_addition",
        task="addition",
        config={"cell": "lstm", "units": 256, "max_ponder": 6, "time_penalty": 3e-2},
        train={
            **RECIPE,
            "optimizer": "muon",
            "learning_rate": 2e-3,
            "decay_from": 0.6,
            "updates": 180_000,
            "batch_size": 32,
            "curriculum": 0.4,
            "steps_per_epoch": 500,
        },
        paper_result="solved for every time penalty; not without ACT (figures give no number)",
    )
)

register(
    Entry(
        **SHARED,
        name="act_sort",
        task="sort",
        config={"cell": "lstm", "units": 256, "max_ponder": 6, "time_penalty": 5e-3},
        train={**RECIPE, "decay_from": 0.7, "updates": 24_000, "batch_size": 32, "curriculum": 0.5},
        paper_result="about 6 % for the best time penalty; about 12 % without ACT",
    )
)

register(
    Entry(
        **SHARED,
        name="act_wikipedia",
        task="characters",
        small_task={"length": 12},
        own_signatures=text_signatures,
        own_notation=characters.notation,
        config={"cell": "lstm", "units": 256, "max_ponder": 5, "time_penalty": 0.1},
        train={
            **RECIPE,
            "optimizer": "muon",
            "learning_rate": 1e-2,
            "updates": 5_000,
            "batch_size": 32,
        },
        paper_result="bits per character about the same with and without ACT (enwik8, figures "
        "only)",
    )
)
