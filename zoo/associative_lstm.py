"""Associative LSTM (Danihelka et al., 2016), arXiv:1602.03032."""

import keras

from ..layers import AssociativeLSTM, PeepholeLSTM, SequenceMask
from ._networks import build_bytes
from ._registry import Entry, Paper, register
from .signatures._text import text_notation, text_signatures
from .signatures.characters import byte_notation, signatures_of_layer
from .signatures.episodic_copy import copy_notation, copy_signatures

PAPER = Paper(
    mechanism="Associative LSTM",
    title="Associative Long Short-Term Memory",
    authors="Ivo Danihelka, Greg Wayne, Benigno Uria, Nal Kalchbrenner, Alex Graves",
    year=2016,
    arxiv="1602.03032",
)


def build(task, machine, units, copies, forget_bias, use_recurrent_candidate):
    """An Associative LSTM or the paper's baseline, an LSTM, on symbols one-hot.

    Args:
        task: the task, whose symbols and target shape the model.
        machine: "associative" or "baseline".
        units: of the layer.
        copies: S, how often the memory holds everything. No weight depends on it.
        forget_bias: what the bias of the forget gates begins with.
        use_recurrent_candidate: whether the update sees the output before; the baseline's does.

    Returns:
        `keras.Model`: `sequence` and `lengths` in, the logits of the task's target out.

    Raises:
        ValueError: there is no such machine.
    """
    _check_machine(machine)
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    lengths = keras.Input((), dtype="int32", name="lengths")
    options = {"return_sequences": True, "name": "memory"}
    if machine == "associative":
        memory = AssociativeLSTM(
            units,
            copies=copies,
            forget_bias=forget_bias,
            use_recurrent_candidate=use_recurrent_candidate,
            **options,
        )
    else:
        memory = PeepholeLSTM(units, peepholes=False, forget_bias=forget_bias, **options)
    hidden = memory(
        keras.ops.one_hot(sequence, task.classes), mask=SequenceMask()(sequence, lengths)
    )
    (name,) = task.target_spec
    logits = keras.layers.Dense(task.classes, name=name)(hidden)
    return keras.Model({"sequence": sequence, "lengths": lengths}, {name: logits})


def build_text(task, machine, units, copies, forget_bias, use_recurrent_candidate):
    """The machines of `build` on bytes."""
    _check_machine(machine)
    if machine == "associative":
        layer = AssociativeLSTM(
            units,
            copies=copies,
            forget_bias=forget_bias,
            use_recurrent_candidate=use_recurrent_candidate,
            return_sequences=True,
            return_state=True,
            name="memory",
        )
    else:
        layer = PeepholeLSTM(
            units, peepholes=False, forget_bias=forget_bias, return_state=True, name="memory"
        )
    return build_bytes(layer)


def _check_machine(machine):
    if machine not in ("associative", "baseline"):
        raise ValueError(f"machine must be associative or baseline, got {machine!r}")


RECIPE = {
    "learning_rate_schedule": "cosine",
    "decay_from": 0.6,
    "batch_size": 16,
    "steps_per_epoch": 500,
    "evaluation_rows": 5000,
}


def _register(
    name, task, signatures, notation, copies, train, paper, notes="", build=build, **task_config
):
    register(
        Entry(
            name=f"associative_lstm_{name}",
            paper=PAPER,
            task=task,
            build=build,
            signatures=signatures,
            notation=notation,
            task_config=task_config,
            config={
                "machine": "associative",
                "units": 128,
                "copies": copies,
                "forget_bias": 1.0,
                "use_recurrent_candidate": False,
            },
            train={**RECIPE, **train},
            paper_result=paper,
            baseline="LSTM",
            notes=notes,
        )
    )


_register(
    "copy",
    "episodic_copy",
    copy_signatures,
    copy_notation,
    copies=8,
    train={"updates": 9000, "steps_per_epoch": 250},
    paper="learnt, the faster the more copies; LSTM of the same size much slower (curves)",
    notes=(
        "Batches of 16; the paper's were of 2 (from memory). In pilots of one seed 1,000 updates "
        "came to 14.5 bits with 8 copies, 19.6 with one and 24.5 with the LSTM, where symbols "
        "drawn by chance cost 16.5. A forget bias of 0 learns as fast as one of 1, with larger "
        "spikes."
    ),
)
_register(
    "assignment",
    "variable_assignment",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 40_000, "learning_rate": 3e-3},
    paper="learnt, the faster the more copies; LSTM far behind (curves)",
    notes=(
        "Batches of 16; the paper's were of 2 (from memory). The learning rate decides: at 1e-3, "
        "in batches of 16 or of 2, the network names one of the values that it was told, but not "
        "the one that was asked for, with two variables of one letter as with four of four, for "
        "as long as it was tried, 8,000 to 30,000 updates. At 3e-3 it needs no curriculum."
    ),
)
_register(
    "arithmetic",
    "arithmetic",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 60_000},
    paper="ahead of LSTM (curves)",
)
_register(
    "xml",
    "xml_modelling",
    text_signatures,
    text_notation,
    copies=8,
    train={"updates": 20_000, "learning_rate": 3e-3},
    paper="learnt, the faster the more copies; LSTM of the same size behind (curves)",
)
_register(
    "wikipedia",
    "characters",
    signatures_of_layer("memory"),
    byte_notation,
    build=build_text,
    copies=4,
    train={"updates": 12_000, "batch_size": 10, "evaluation_rows": 2000},
    paper="bits per character no clear gain over an LSTM (enwik8, figures only)",
)
