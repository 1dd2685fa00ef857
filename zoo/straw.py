"""Strategic Attentive Writer for Learning Macro-Actions (Vezhnevets et al., 2016)."""

import keras
from keras import ops

from ..layers import STRAW, Alphabet, PeepholeLSTM
from ..trainers._metrics import MeanOutput
from ._registry import Entry, Paper, register
from .signatures import characters
from .signatures.characters import BYTES

PAPER = Paper(
    mechanism="STRAW",
    title="Strategic Attentive Writer for Learning Macro-Actions",
    authors="Alexander (Sasha) Vezhnevets, Volodymyr Mnih, John Agapiou, Simon Osindero, Alex "
    "Graves, Oriol Vinyals, Koray Kavukcuoglu",
    year=2016,
    arxiv="1606.04695",
)
TOLD = {
    "replanned": "1 where a plan was made, (batch, time); 0 where it was followed, and at padding",
    "chance": "the probability of it, by the plan before, (batch, time); 1 where it had to be",
    "ahead": "in how many steps it is most certain to be made again, (batch, time)",
}


def build_text(task, units, horizon, patch, planner, replan_penalty, alphabet):
    """An LSTM that reads letters, and plans of the letters to come (section 4.1).

    Args:
        task: `Letters`, or another whose inputs are bytes.
        units: of the LSTM.
        horizon, patch: T and K, as of `STRAW`; the paper's are 500 and 10.
        planner: units of the planner's hidden layers.
        replan_penalty: lambda.
        alphabet: the bytes that plans have rows for; all others are held improbable.

    Returns:
        `keras.Model`: `sequence` and `seed` in; the logits `next` of the byte after each, and
        `replanned`, `chance` and `ahead` out.
    """
    sequence = keras.Input((None,), dtype="int32", name="sequence")
    seed = keras.Input((), dtype="int32", name="seed")
    read = PeepholeLSTM(units, return_state=True, forget_bias=1.0, name="read")
    hidden, *_ = read(ops.one_hot(sequence, BYTES))
    writer = STRAW(
        len(alphabet),
        horizon,
        patch,
        planner,
        replan_penalty=replan_penalty,
        return_state=True,
        name="writer",
    )
    plan = writer(hidden, seed)
    outputs = {"next": Alphabet(alphabet, name="next")(plan["logits"])}
    outputs |= {name: plan[name] for name in TOLD}
    return keras.Model({"sequence": sequence, "seed": seed}, outputs)


def measures(model):
    """How often plans are made."""
    return {"replanned": [MeanOutput("replanned", "steps that planned again")]}


def signatures(model, task):
    """What a model of bytes serves (see `byte_signatures`), and its plans: it takes no chances."""
    import tensorflow as tf

    reader, writer = model.get_layer("read"), model.get_layer("writer")
    states = {**writer.state_shapes, "h": (reader.units,), "c": (reader.units,)}

    def run(codes, mask, state):
        plans, cells = (state[:3], state[3:]) if state else (None, None)
        hidden, *cells = reader(tf.one_hot(codes, BYTES), mask=mask, initial_state=cells)
        plan = writer(hidden, None, sequence_mask=mask, initial_state=plans)
        after = [*(plan[name] for name in writer.state_shapes), *cells]
        return model.get_layer("next")(plan["logits"]), after, {name: plan[name] for name in TOLD}

    return characters.byte_signatures(run, states, TOLD)


SHARED = {
    "paper": PAPER,
    "task": "letters",
    "build": build_text,
    "measures": measures,
    "trade_off": ("replan_penalty", "replanned"),
    "own_signatures": signatures,
    "own_notation": characters.notation,
    "small": {"units": 8, "horizon": 5, "patch": 3, "planner": 8},
    "small_task": {"length": 12},
    "paper_result": "no number: frequent macro-actions are frequent in the text",
}
CONFIG = {"units": 128, "horizon": 20, "patch": 5, "planner": 64, "replan_penalty": 3e-3}
TRAIN = {
    "learning_rate": 2e-3,
    "learning_rate_schedule": "cosine",
    "decay_from": 0.5,
    "batch_size": 32,
    "updates": 5000,
    "steps_per_epoch": 250,
}

register(
    Entry(
        **SHARED,
        name="straw_words",
        task_config={"data": "eight_words", "length": 50},
        config={**CONFIG, "units": 64, "alphabet": " abcdefijklmnoty"},
        train=TRAIN,
    )
)

register(
    Entry(
        **SHARED,
        name="straw_characters",
        task_config={"data": "addresses", "length": 50},
        config={**CONFIG, "alphabet": "\n $%&'-<>Nabcdefghijklmnopqrstuvwxyz"},
        train=TRAIN,
    )
)
