"""Q-learning: targets by tables, updates beside plain numpy, and games that are learnt."""

import json
import os

import keras
import numpy as np
import pytest
from ponderzoo import trainers, zoo
from ponderzoo.layers import q_loss, q_target
from ponderzoo.trainers.learning import q_learning
from ponderzoo.trainers.tasks.catch import Catch

NEXT = [[1.0, 3.0], [4.0, -2.0]]
OTHER = [[5.0, 0.0], [0.0, 7.0]]


@pytest.mark.parametrize(
    "over, chosen_by, expected",
    [
        ([0, 0], None, [1 + 0.5 * 3, -2 + 0.5 * 4]),
        ([1, 0], None, [1, -2 + 0.5 * 4]),
        ([1, 1], None, [1, -2]),
        ([0, 0], OTHER, [1 + 0.5 * 1, -2 + 0.5 * -2]),
        ([0, 1], OTHER, [1 + 0.5 * 1, -2]),
    ],
)
def test_a_target_is_the_reward_and_the_best_to_come_unless_the_game_is_over(
    over, chosen_by, expected
):
    given = [np.array(x, "float32") for x in ([1, -2], over, NEXT)]
    chosen_by = chosen_by and np.array(chosen_by, "float32")
    np.testing.assert_allclose(q_target(*given, 0.5, chosen_by), expected)
    as_bool = given[0], np.array(over, bool), given[2]
    np.testing.assert_allclose(q_target(*as_bool, 0.5, chosen_by), expected)


@pytest.mark.parametrize(
    "target, clip_errors, loss, slope",
    [
        (2.5, False, 0.25, 1.0),
        (2.5, True, 0.25, 1.0),
        (2.0, True, 1.0, 2.0),
        (0.0, False, 9.0, 6.0),
        (0.0, True, 5.0, 2.0),
        (7.0, False, 16.0, -8.0),
        (7.0, True, 7.0, -2.0),
    ],
)
def test_a_loss_is_the_squared_error_of_the_action_alone(target, clip_errors, loss, slope):
    import tensorflow as tf

    values = tf.constant([[100.0, 3.0, -100.0]])
    with tf.GradientTape() as tape:
        tape.watch(values)
        found = q_loss(values, np.array([1]), np.array([target], "float32"), clip_errors)
    np.testing.assert_allclose(found, [loss])
    np.testing.assert_allclose(tape.gradient(found, values), [[0, slope, 0]])


def test_no_gradient_flows_through_a_target():
    import tensorflow as tf

    values = tf.constant(NEXT)
    with tf.GradientTape() as tape:
        tape.watch(values)
        target = q_target(tf.constant([1.0, -2.0]), tf.constant([0.0, 0.0]), values, 0.5)
    assert tape.gradient(target, values) is None


def test_no_row_has_no_loss():
    nothing = np.zeros((0, 2), "float32"), np.zeros(0, "float32")
    assert q_target(nothing[1], nothing[1], nothing[0], 0.5).shape == (0,)
    assert q_loss(nothing[0], np.zeros(0, "int32"), nothing[1]).shape == (0,)


# The recipe.


@pytest.mark.parametrize(
    "frame, share", [(0, 1.0), (250, 0.775), (500, 0.55), (1000, 0.1), (10**7, 0.1)]
)
def test_actions_at_random_get_fewer_along_a_line(frame, share):
    assert q_learning.Recipe(epsilon_frames=1000).epsilon(frame) == pytest.approx(share)


@pytest.mark.parametrize(
    "task, changes, words",
    [
        ("copy", {}, "nothing acts in the task copy"),
        ("catch", {"double": True}, "target_every"),
        ("catch", {"actors": 4, "replay_capacity": 15}, "replay_capacity must be 16 or more"),
        ("catch", {"discount": 1.5}, "discount must be from 0 to 1, got 1.5"),
    ],
)
def test_a_recipe_says_what_is_wrong(task, changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        trainers.fit(None, trainers.task(task), {"learning": "q_learning", **changes}, tmp_path)


# Updates.

FLAGS = {
    "as in 2013": {},
    "rewards as they are": {"clip_rewards": False},
    "a network of targets": {"target_every": 5},
    "double": {"target_every": 5, "double": True},
    "clipped errors": {"clip_errors": True},
}


def linear(task, start):
    frames = keras.Input(task.input_spec["frames"][0], dtype="uint8", name="frames")
    dense = keras.layers.Dense(len(task.actions), use_bias=False, name="values")
    values = dense(keras.layers.Flatten()(keras.ops.cast(frames, "float32") / 255))
    model = keras.Model({"frames": frames}, {"values": values})
    model.set_weights([start])
    return model


@pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)
def test_an_update_is_that_of_plain_numpy_in_float64(flags):
    """A linear network, steepest descent, eight updates of which some games are over."""
    rng, task = np.random.default_rng(0), Catch(size=3, frames=1)
    start = rng.normal(size=(9, 3)).astype("float32")
    recipe = q_learning.Recipe(
        optimizer="sgd", momentum=0.0, clipnorm=0.0, learning_rate=0.05, discount=0.9, **flags
    )
    learner = q_learning.Learner(linear(task, start), recipe)
    learner.compile(recipe.make_optimizer(), jit_compile=False)
    weights = fixed = start.astype("float64")
    for update in range(8):
        steps = {
            "frames": rng.integers(0, 256, (6, 3, 3, 1), "uint8"),
            "next_frames": rng.integers(0, 256, (6, 3, 3, 1), "uint8"),
            "action": rng.integers(0, 3, 6).astype("int32"),
            "reward": (3 * rng.normal(size=6)).astype("float32"),
            "over": rng.random(6) < 0.4,
        }
        learner.train_on_batch(steps)
        before, after = (steps[k].reshape(6, 9) / 255.0 for k in ("frames", "next_frames"))
        slope = np.zeros_like(weights)
        for row in range(6):
            reward = steps["reward"][row]
            reward = np.sign(reward) if recipe.clip_rewards else reward
            of_targets = after[row] @ (fixed if recipe.target_every else weights)
            best = (after[row] @ weights if recipe.double else of_targets).argmax()
            aim = reward + 0.9 * of_targets[best] * (not steps["over"][row])
            action = steps["action"][row]
            error = before[row] @ weights[:, action] - aim
            error = np.clip(error, -1, 1) if recipe.clip_errors else error
            slope[:, action] += 2 * error * before[row] / 6
        weights = weights - 0.05 * slope
        if recipe.target_every and (update + 1) % recipe.target_every == 0:
            learner.follow()
            fixed = weights
    np.testing.assert_allclose(learner.model.get_weights()[0], weights, atol=1e-5)


# Runs.

SMALL = {
    "learning": "q_learning",
    "updates": 40,
    "steps_per_epoch": 10,
    "batch_size": 8,
    "actors": 3,
    "replay_capacity": 60,
    "replay_start": 12,
    "epsilon_frames": 100,
    "target_every": 7,
    "learning_rate": 1e-2,
    "validation_rows": 20,
    "evaluation_rows": 30,
    "histograms": 2,
    "figures": False,
}


def run(directory, **changes):
    """Learns to catch in a field of five by five; several games at once, two frames, cut off."""
    task = Catch(size=5, sticky=0.1, most_steps=7)

    def build():
        return zoo.info("dqn_catch").build(task, "small", 8)

    return trainers.fit(build, task, {**SMALL, **changes}, directory)


def test_a_run_fills_its_directory_and_measures_its_games(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = run(tmp_path, figures=True, jit_compile=False)
    assert 0 <= found["mean_return"] <= found["best_return"] <= 1
    assert found["players"]["chance"]["mean_return"] < 0.6
    events = EventAccumulator(str(tmp_path / "logs")).Reload()
    curves = set(events.Tags()["tensors"])
    assert {"curves/validation_mean_return", "details/loss", "details/epsilon"} <= curves
    assert sorted(os.listdir(tmp_path / "figures")) == ["game.png"]
    assert not os.path.exists(tmp_path / "backup" / "replay")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(FloatingPointError, match="the loss is"):
        run(tmp_path, learning_rate=1e30, optimizer="sgd", jit_compile=False)
    assert "failed" in json.loads((tmp_path / "metrics.json").read_text())


@pytest.mark.parametrize("actors, steps_per_update", [(1, 1), (4, 1), (2, 4), (3, 2)])
def test_steps_and_updates_keep_their_ratio(actors, steps_per_update, tmp_path, monkeypatch):
    heads = []
    sample = q_learning.Replay.sample

    def watched(replay, rng, size):
        heads.append(replay.head * replay.actors)
        return sample(replay, rng, size)

    monkeypatch.setattr(q_learning.Replay, "sample", watched)
    ratio = {"actors": actors, "steps_per_update": steps_per_update, "validation_rows": 0}
    run(tmp_path, **ratio, jit_compile=False)
    due = 12 + steps_per_update * np.arange(1, 41)
    assert len(heads) == 40
    assert (heads >= due).all() and (heads < due + actors).all()


def test_a_game_is_played_by_a_client_alone(tmp_path, monkeypatch, capsys):
    """Its returns and actions are those of the model in this process."""
    from PIL import Image
    from ponderzoo.export import _cli, _gate, _package
    from ponderzoo.export.server._server import Server
    from ponderzoo.trainers.tasks._acting import Games

    monkeypatch.setattr(_gate, "verify", lambda *given: None)  # `test_conformance.py` has it
    monkeypatch.setattr(_package, "BATCH_SIZES", (1,))
    entry = zoo.info("dqn_catch")
    keras.utils.set_random_seed(0)
    task, model = zoo.task_of(entry), zoo.build("dqn_catch")
    _package.package(model, entry.signatures(model, task), "dqn_catch", str(tmp_path / "served"))

    def ponderzoo(words):
        code = _cli._run(_cli._parser().parse_args(words.split()))
        return (code or 0, *capsys.readouterr())

    with Server(str(tmp_path / "served")) as server:
        play = f"--address {server.address} --output {tmp_path} --seed 3"
        code, out, _ = ponderzoo(f"play dqn_catch {play}")
        assert code == 0 and "over after 9 steps" in out
        found = json.loads(ponderzoo(f"play dqn_catch {play} --json")[1])
        others = json.loads(ponderzoo(f"play dqn_catch {play} --epsilon 1 --json")[1])
        code, _, err = ponderzoo(f"play act_parity {play}")
        assert code == 1 and "act_parity plays no games" in err
    with Image.open(tmp_path / "dqn_catch.gif") as picture:
        assert picture.n_frames >= 9
    rng, actions = np.random.default_rng(3), []
    games = Games(task, 1, rng)
    for _ in range(9):
        rng.integers(0, 2**31, 1)
        actions.append(int(np.argmax(model({"frames": games.frames})["values"])))
        reward, over, _ = games.step(actions[-1:], rng)
    assert over.all() and found["return"] == reward[0] and found["over"]
    assert found["actions"] == [task.actions[action] for action in actions]
    assert others["actions"] != found["actions"]


@pytest.mark.parametrize("lives", [False, True])
def test_a_lost_life_ends_what_is_to_come_where_that_is_asked_for(lives, tmp_path, monkeypatch):
    ends, sample = [], q_learning.Replay.sample

    def watched(replay, rng, size):
        found = sample(replay, rng, size)
        ends.append(found["over"].mean())
        return found

    monkeypatch.setattr(q_learning.Replay, "sample", watched)
    monkeypatch.setattr(Catch, "lost", lambda self, before, after: after["row"] >= 2)
    run(tmp_path, lives=lives, validation_rows=0, jit_compile=False)
    # A game is four steps, of which the last ends it; what they lead to is in rows 1, 2 and 3.
    assert np.mean(ends) == pytest.approx(0.75 if lives else 0.25, abs=0.1)
