"""Adaptive Computation Time (Graves, 2016), arXiv:1603.08983."""

import keras

from ..layers import ACT, SequenceMask
from ._registry import Entry, Paper, register

PAPER = Paper(
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
CLASSES = {"parity": 1, "truth": 1, "sum": 11, "order": None, "next": 256}


def build(task, cell, units, max_ponder, time_penalty):
    """A recurrent network that ponders (Graves, 2016, sections 2 and 3).

    Args:
        task: the task, whose inputs and targets shape the model.
        cell: "lstm", "gru" or "rnn".
        units: of the cell.
        max_ponder: M. With 1 the network is the paper's baseline, which updates once per input.
        time_penalty: tau.

    Returns:
        `keras.Model`: `sequence` and, where sequences differ in length, `lengths` in; the logits of the
        task's target, `updates` and `remainder` out.
    """
    if cell not in CELLS:
        raise ValueError(f"cell must be one of {sorted(CELLS)}, got {cell!r}")
    inputs = {
        name: keras.Input((None,) + shape[1:] if shape else (), dtype=dtype, name=name)
        for name, (shape, dtype) in task.input_spec.items()
    }
    sequence = inputs["sequence"]
    mask = SequenceMask()(sequence, inputs["lengths"]) if "lengths" in inputs else None
    if sequence.dtype == "int32":
        sequence = keras.layers.CategoryEncoding(num_tokens=256, output_mode="one_hot")(sequence)
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
    return keras.Model(
        inputs, {name: _head(task, name, shape)(hidden), "updates": updates, "remainder": remainder}
    )


def _head(task, name, shape):
    """From hidden states `(batch, time, units)` to the logits of a target."""
    places, classes = shape[1:], CLASSES[name] or task.numbers
    return keras.Sequential(
        [
            keras.layers.Dense(classes * (places[0] if places else 1)),
            keras.layers.Reshape((-1, *places, *([classes] if classes > 1 else []))),
        ],
        name=name,
    )


def signatures(model, task):
    raise NotImplementedError


for _task, _cell, _units, _max_ponder, _time_penalty, _train in (
    ("parity", "rnn", 128, 100, 1e-3, {"updates": 100_000, "batch_size": 128}),
    ("logic", "lstm", 128, 20, 1e-3, {"updates": 40_000, "batch_size": 64}),
    ("addition", "lstm", 512, 20, 1e-3, {"updates": 40_000, "batch_size": 32}),
    ("sort", "lstm", 512, 20, 1e-3, {"updates": 20_000, "batch_size": 32}),
    ("wikipedia", "lstm", 512, 20, 6e-3, {"updates": 20_000, "batch_size": 32}),
):
    register(
        Entry(
            name=f"act_{_task}",
            paper=PAPER,
            task="characters" if _task == "wikipedia" else _task,
            build=build,
            signatures=signatures,
            config={
                "cell": _cell,
                "units": _units,
                "max_ponder": _max_ponder,
                "time_penalty": _time_penalty,
            },
            train=_train,
        )
    )
