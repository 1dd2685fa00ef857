"""Actor and critic: returns and losses by tables, updates beside single steps, and mazes."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ponderzoo import trainers, zoo
from ponderzoo.layers import actor_critic_loss, returns
from ponderzoo.trainers.learning import actor_critic
from ponderzoo.trainers.tasks._acting import Games, Player
from ponderzoo.trainers.tasks.maze import Maze, in_corridor


@pytest.mark.parametrize(
    "over, expected",
    [
        ([0, 0, 0], [1 + 0.5 * (2 + 0.5 * (4 + 0.5 * 8)), 2 + 0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8]),
        ([0, 0, 1], [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 4]),
        ([0, 1, 0], [1 + 0.5 * 2, 2, 4 + 0.5 * 8]),
        ([1, 0, 0], [1, 2 + 0.5 * (4 + 0.5 * 8), 4 + 0.5 * 8]),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "bool"])
def test_a_return_goes_on_to_the_end_of_a_game_or_to_what_is_expected(over, expected, dtype):
    reward = tf.constant([[1.0], [2.0], [4.0]])
    found = returns(reward, np.array(over, dtype)[:, None], tf.constant([8.0]), 0.5)
    np.testing.assert_allclose(found[:, 0], expected)


def test_no_gradient_flows_through_a_return_or_an_advantage():
    value, logits = tf.constant([[2.0]]), tf.constant([[[0.0, 1.0, 2.0]]])
    with tf.GradientTape() as tape:
        tape.watch([value, logits])
        target = returns(tf.constant([[1.0]]), [[0]], value[0], 0.5)
        loss = tf.reduce_sum(actor_critic_loss(logits, value, [[1]], target, 0.0, 0.5))
    d_value, d_logits = tape.gradient(loss, [value, logits])
    # The target of 1 + 0.5 * 2 is the value itself: nothing is to be learnt.
    assert float(loss) == 0 and not np.any(d_value) and not np.any(d_logits)


@pytest.mark.parametrize("most, advantage", [(None, 3.0), (1.0, 1.0), (5.0, 3.0)])
def test_a_loss_is_of_actor_critic_and_entropy(most, advantage):
    logits = np.array([0.5, -1.0, 2.0])
    chance = np.exp(logits) / np.exp(logits).sum()
    told = -np.log(chance[0]) * advantage - 0.1 * -(chance * np.log(chance)).sum() + 0.25 * 9
    given = tf.constant(logits), tf.constant(-1.0, "float64"), 0, tf.constant(2.0, "float64")
    np.testing.assert_allclose(actor_critic_loss(*given, 0.1, 0.25, most), told)
    other = actor_critic_loss(*given, 0.1, 0.25, most, log_chance=-0.7)
    np.testing.assert_allclose(other, told + 0.7 * advantage)


def recipe(**changes):
    return actor_critic.Recipe(**{"updates": 8, "steps_per_epoch": 2, "unroll": 4, **changes})


MACHINES = "straw", "strawe", "lstm", "feedforward", "ram"


@pytest.fixture(scope="module")
def built():
    """The small model of a machine and its task, built once."""
    found = {}

    def build(machine):
        if machine not in found:
            entry = zoo.info("ram_catch" if machine == "ram" else "straw_maze")
            keras.utils.set_random_seed(3)
            task = zoo.task_of(entry, **entry.small_task, most_steps=6)
            settings = {**entry.small, "machine": machine, "replan_penalty": 0.1}
            settings = {k: x for k, x in settings.items() if k in entry.config}
            found[machine] = entry.build(task, **{**entry.config, **settings}), task
        return found[machine]

    return build


class Run:
    """What a stream of stretches asks of a run."""

    def save(self, variables, arrays):
        self.arrays = {name: np.array(x) for name, x in arrays.items()}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_stretch_costs_what_its_steps_cost_one_by_one(machine, built):
    """As they were played, with the same chance, games that end among them."""
    model, task = built(machine)
    told = recipe(batch_size=5, entropy_weight=0.1)
    stream = actor_critic.Stretches(model, task, told, Run())
    learner = actor_critic.Learner(model, told)
    for index in range(3):
        stretch = stream[index]
        found = np.asarray(learner(stretch, training=True))
        player, logits, values, costs, chances = Player(model, 5), [], [], [], []
        player.state = {name: stretch[name].copy() for name in player.state}
        for step in range(told.unroll + 1):
            player.begin(stretch["begins"][:, step] > 0)
            seen = player.look(stretch["frames"][:, step], stretch["seed"][:, step])
            logits.append(seen["policy"])
            values.append(seen["value"])
            costs.append(seen.get("cost", np.zeros(5)))
            chances.append(seen.get("log_chance", np.zeros(5)))
        done, reward, over = (stretch[name].T for name in ("action", "reward", "over"))
        target = returns(tf.constant(reward), over, values[-1], told.discount)
        made = [np.stack(x[:-1]) for x in (logits, values, chances)]
        loss = actor_critic_loss(*made[:2], done, target, 0.1, 0.5, 1.0, made[2])
        expected = np.sum(loss + np.stack(costs[:-1]), axis=0)
        np.testing.assert_allclose(found, expected, 1e-4, 1e-4)
    assert stretch["begins"].any() and stretch["over"].shape == (5, 4)


@pytest.mark.parametrize("machine", ["strawe", "lstm", "ram"])
def test_the_gradient_goes_through_all_steps_of_a_stretch(machine, built):
    """Beside the same steps one by one on a tape."""
    model, task = built(machine)
    told = recipe(batch_size=3)
    stretch = actor_critic.Stretches(model, task, told, Run())[0]
    learner = actor_critic.Learner(model, told)
    weights = [v.value for v in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(learner(stretch, training=True))
    found = tape.gradient(loss, weights)
    kept = learner.cell.kept
    with tf.GradientTape() as tape:
        state, seen = {name: tf.constant(stretch[name]) for name in kept}, []
        for step in range(told.unroll + 1):
            goes_on = 1 - stretch["begins"][:, step]
            given = {"frames": stretch["frames"][:, step], "seed": stretch["seed"][:, step]}
            for name, x in state.items():
                given[name] = x * goes_on.reshape(-1, *[1] * (len(x.shape) - 1))
            given = {n: tf.convert_to_tensor(x) for n, x in given.items() if n in model.input}
            seen.append(model(given, training=True))
            state = {name: seen[-1][name] for name in kept}
        values = [x["value"] for x in seen]
        done, reward, over = (stretch[name].T for name in ("action", "reward", "over"))
        target = returns(tf.constant(reward), over, values[-1], told.discount)
        logits = tf.stack([x["policy"] for x in seen[:-1]])
        chance = tf.stack([x.get("log_chance", tf.zeros(3)) for x in seen[:-1]])
        given = logits, tf.stack(values[:-1]), done, target, 1e-2, 0.5, 1.0, chance
        parts = actor_critic_loss(*given)
        cost = sum(x.get("cost", tf.zeros(3)) for x in seen[:-1])
        loss = tf.reduce_sum(parts) + tf.reduce_sum(cost)
    for a, b in zip(found, tape.gradient(loss, weights), strict=True):
        a, b = (np.zeros(1) if x is None else np.asarray(x) for x in (a, b))
        np.testing.assert_allclose(a, b, 1e-3, 1e-4 * max(np.abs(b).max(), 1e-3))


def test_a_stream_goes_on_as_if_it_had_not_stopped(built):
    model, task = built("straw")
    told, first = recipe(batch_size=4), Run()
    stream = actor_critic.Stretches(model, task, told, first)
    for index in range(2):
        stream[index]
    stream.save([])
    expected = stream[2]
    again = actor_critic.Stretches(model, task, told, Run())
    again.begin(first.arrays)
    for name, x in again[2].items():
        np.testing.assert_array_equal(x, expected[name], name)


def run(directory, **changes):
    """Learns a few steps in small mazes."""
    task, entry = Maze(size=5, most_steps=6), zoo.info("straw_maze")
    config = {**entry.config, **entry.small, "machine": "lstm"}
    settings = {"learning": "actor_critic", "updates": 8, "steps_per_epoch": 2, "unroll": 3}
    settings |= {"batch_size": 4, "evaluation_rows": 4, "validation_rows": 0, "figures": False}
    settings |= {"jit_compile": False, **changes}
    return trainers.fit(lambda: entry.build(task, **config), task, settings, directory)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"unroll": 0}, "unroll"),
        ({"discount": 1.5}, "discount"),
        ({"entropy_weight": -1}, "entropy_weight"),
    ],
)
def test_a_recipe_says_what_is_wrong(changes, words, tmp_path, built):
    model, task = built("lstm")
    with pytest.raises(ValueError, match=words):
        trainers.fit(lambda: model, task, {"learning": "actor_critic", **changes}, tmp_path)


def test_nothing_acts_in_other_tasks():
    with pytest.raises(ValueError, match="nothing acts in the task parity"):
        recipe().check(trainers.task("parity"))


def test_corridors_are_where_two_opposite_ways_lead_on():
    task, rng = Maze(size=9), np.random.default_rng(1)
    state = task.start(rng, 50)
    found = in_corridor(state)
    for walls, (row, column), corridor in zip(state["walls"], state["player"], found):
        free = [not walls[row + y, column + x] for y, x in ((-1, 0), (0, 1), (1, 0), (0, -1))]
        assert corridor == (free in ([True, False] * 2, [False, True] * 2))
    assert 0 < found.mean() < 1


def test_what_a_planner_tells_is_counted_in_its_own_games(built):
    model, task = built("straw")
    found = task.measure(model, "test", 8, zoo.info("straw_maze").measures)
    assert 0 < found["replanned"] < 1 and 0 <= found["reached"] <= 1
    planning = task.planning(model)
    assert {*planning} == {"replanned_at_corners", "replanned_at_corridors"}


def test_a_player_knows_nothing_of_the_game_before(built):
    model, task = built("lstm")
    rng = np.random.default_rng(0)
    games, player = Games(dataclasses.replace(task, most_steps=2), 3, rng), Player(model, 3)
    for _ in range(2):
        action, _ = player.act(games.frames, 0.0, rng)
        _, over, cut = games.step(action, rng)
        player.begin(over | cut)
    assert (over | cut).all() and not any(np.any(x) for x in player.state.values())


def test_a_game_is_played_by_a_client_that_hands_the_state_on(tmp_path, monkeypatch, capsys):
    """Its actions are those of the model in this process, with the same chance."""
    from ponderzoo.export import _cli, _gate, _package
    from ponderzoo.export.server._server import Server

    monkeypatch.setattr(_gate, "verify", lambda *given: None)  # `test_conformance.py` has it
    monkeypatch.setattr(_package, "BATCH_SIZES", (1,))
    entry = zoo.info("straw_maze")
    keras.utils.set_random_seed(1)
    task, model = zoo.task_of(entry), zoo.build("straw_maze", filters=2, units=16, machine="straw")
    writer = model.get_layer("writer")
    writer.write.kernel.assign(5 * writer.write.kernel)  # so that it matters what was planned
    _package.package(model, entry.signatures(model, task), "straw_maze", str(tmp_path / "served"))
    with Server(str(tmp_path / "served")) as server:
        words = f"play straw_maze --address {server.address} --output {tmp_path} --seed 3 --json"
        _cli._run(_cli._parser().parse_args(words.split()))
    found = json.loads(capsys.readouterr().out)
    rng, actions, gates = np.random.default_rng(3), [], []
    games, player, ended = Games(task, 1, rng), Player(model, 1), False
    while not ended:
        seen = player.look(games.frames, rng.integers(0, 2**31, 1, "int32"))
        gates.append(int(seen["replanned"][0]))
        actions.append(int(seen["policy"].argmax()))
        _, over, cut = games.step(actions[-1:], rng)
        ended = over[0] or cut[0]
    assert found["actions"] == [task.actions[action] for action in actions]
    assert 1 < sum(gates) < len(gates) and len({*actions}) > 1
