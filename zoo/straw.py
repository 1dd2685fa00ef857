"""Strategic Attentive Writer for Learning Macro-Actions (Vezhnevets et al., 2016)."""

import keras
from keras import ops

from ..layers import STRAW, Alphabet, PeepholeLSTM
from ..layers._base import not_negative, whole
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


def build_text(
    task, units, horizon, patch, planner, commitment, clip_plan, replan_penalty, alphabet
):
    """An LSTM that reads letters, and plans of the letters to come (section 4.1).

    Args:
        task: `Letters`, or another whose inputs are bytes.
        units: of the LSTM.
        horizon, patch: T and K, as of `STRAW`; the paper's are 500 and 10.
        planner: units of the planner's hidden layers.
        commitment, clip_plan: as of `STRAW`.
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
        commitment=commitment,
        clip_plan=clip_plan,
        replan_penalty=replan_penalty,
        return_state=True,
        name="writer",
    )
    plan = writer(hidden, seed)
    outputs = {"next": Alphabet(alphabet, name="next")(plan["logits"])}
    outputs |= {name: plan[name] for name in TOLD}
    return keras.Model({"sequence": sequence, "seed": seed}, outputs)


MACHINES = "straw", "strawe", "lstm", "feedforward"


def build_acting(
    task,
    machine,
    filters,
    units,
    horizon,
    patch,
    planner,
    commitment,
    noise,
    replan_penalty,
    noise_penalty,
):
    """A policy and what it expects, of frames, at each step (sections 3.4 and 4.2).

    Args:
        task: an `Acting` task.
        machine: "straw"; "strawe", with a channel of chance; or, as the paper compares with, "lstm"
            or "feedforward".
        filters: of both convolutions of 3 by 3, twice as many in the second.
        units: of the layer above them, and of the LSTM.
        horizon, patch: T and K, as of `STRAW`; the paper's are 500 and 10.
        planner: units of the planner's hidden layers.
        commitment: as of `STRAW`.
        noise: size of the channel, 128 in the paper.
        replan_penalty, noise_penalty: lambda and alpha.

    Returns:
        `keras.Model`, a step: `frames`, the state and, where there is chance, `seed` in; `policy`,
        `value`, the state and, of those that plan, `replanned`, `chance`, `ahead` and `cost` out.

    Raises:
        ValueError: there is no such machine.
    """
    if machine not in MACHINES:
        raise ValueError(f"machine must be one of {', '.join(MACHINES)}; got {machine!r}")
    shape, dtype = task.input_spec["frames"]
    actions, inputs = len(task.actions), {"frames": keras.Input(shape, dtype=dtype, name="frames")}
    hidden = keras.layers.Rescaling(1 / 255, name="ink")(inputs["frames"])
    for number, count in enumerate((filters, 2 * filters)):
        layer = keras.layers.Conv2D(count, 3, activation="relu", name=f"see_{number}")
        hidden = layer(hidden)
    hidden = keras.layers.Flatten(name="seen")(hidden)
    hidden = keras.layers.Dense(units, "relu", name="hidden")(hidden)

    def kept(sizes):
        states = {name: keras.Input(size, name=name) for name, size in sizes.items()}
        inputs.update(states)
        return list(states.values())

    noise = whole("noise", noise, 1)
    replan_penalty = not_negative("replan_penalty", replan_penalty)
    noise_penalty = not_negative("noise_penalty", noise_penalty)
    if machine in ("straw", "strawe"):
        noise = noise if machine == "strawe" else 0
        sizes = {"horizon": horizon, "patch": patch, "units": planner, "noise": noise}
        sizes["commitment"] = commitment
        writer = STRAW(actions, valued=True, return_state=True, name="writer", **sizes)
        inputs["seed"] = keras.Input((), dtype="int32", name="seed")
        plan = writer(hidden[:, None], inputs["seed"], initial_state=kept(writer.state_shapes))
        told = {name: plan[name][:, 0] for name in ("value", *TOLD)}
        # Nothing was planned of a step that had to plan.
        planned = ops.where(told["chance"] < 1, told["chance"], 0.0)
        cost = replan_penalty * planned
        if noise:
            cost += noise_penalty * plan["kl"][:, 0]
        state = {name: plan[name] for name in writer.state_shapes}
        outputs = {"policy": plan["logits"][:, 0], **told, "cost": cost, **state}
        return keras.Model(inputs, outputs)
    state = {}
    if machine == "lstm":
        cell = keras.layers.LSTMCell(units, name="cell")
        hidden, (h, c) = cell(hidden, kept({"h": (units,), "c": (units,)}))
        state = {"h": h, "c": c}
    policy = keras.layers.Dense(actions, name="policy", dtype="float32")(hidden)
    value = keras.layers.Dense(1, name="value", dtype="float32")(hidden)[:, 0]
    return keras.Model(inputs, {"policy": policy, "value": value, **state})


def measures(model):
    """How often plans are made."""
    if "replanned" not in model.output:
        return {}
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
CONFIG = {
    "units": 128,
    "horizon": 20,
    "patch": 5,
    "planner": 64,
    "commitment": "learned",
    "clip_plan": 5.0,
    "replan_penalty": 0.5,
}
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
        config={**CONFIG, "units": 64, "replan_penalty": 1.0, "alphabet": "a bcdefijklmnoty"},
        train=TRAIN,
    )
)

register(
    Entry(
        **SHARED,
        name="straw_characters",
        task_config={"data": "addresses", "length": 50},
        config={**CONFIG, "alphabet": "$\n %&'-<>Nabcdefghijklmnopqrstuvwxyz"},
        train=TRAIN,
    )
)

register(
    Entry(
        name="straw_maze",
        paper=PAPER,
        task="maze",
        task_config={"reward": 0.1},
        build=build_acting,
        measures=measures,
        told=TOLD,
        config={
            "machine": "straw",
            "filters": 16,
            "units": 128,
            "horizon": 20,
            "patch": 5,
            "planner": 64,
            "commitment": "learned",
            "noise": 16,
            "replan_penalty": 1e-3,
            "noise_penalty": 1e-6,
        },
        train={
            "learning": "actor_critic",
            "learning_rate": 1e-3,
            "learning_rate_schedule": "linear",
            "discount": 0.95,
            "value_weight": 0.25,
            "batch_size": 32,
            "updates": 20_000,
            "steps_per_epoch": 500,
            "clipnorm": 1.0,
            "evaluation_rows": 1000,
        },
        baseline="LSTM",
        plain={"machine": "lstm"},
        paper_result="plans anew at corners and junctions (figures only)",
        small={"filters": 2, "units": 8, "horizon": 5, "patch": 2, "planner": 4},
        small_task={"size": 7},
    )
)
