"""Worlds to act in: their rules by games that are played by hand, and games of many at once."""

import collections
import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from PIL import Image
from ponderzoo import trainers, zoo
from ponderzoo.layers import _chance
from ponderzoo.trainers.figures.games import coloured
from ponderzoo.trainers.tasks._acting import Games, Player, epsilon_greedy, played
from ponderzoo.zoo.signatures._playing import Chance

SLOW = ("atari",)  # which has a file of its own
ACTING = [name for name in trainers.tasks() if hasattr(trainers.task(name), "observation")]
WORLDS = [name for name in ACTING if name not in SLOW]
each_world = pytest.mark.parametrize("name", WORLDS)
LEFT, STAY, RIGHT = range(3)


def rng(seed=0):
    return np.random.default_rng(seed)


def state_of(**values):
    """One game, of plain numbers."""
    return {name: np.array([value]) for name, value in values.items()}


def player(choose):
    """Stands in for a model: `choose(frames)` gives actions, which get the value 1."""

    def values(inputs):
        actions = choose(inputs["frames"])
        return np.eye(4)[actions]

    return type("Player", (), {"predict_on_batch": lambda self, x: {"values": values(x)}})()


# What all worlds keep.


def test_there_are_worlds():
    assert {"breakout_small", "catch", "maze"} <= set(WORLDS)


@each_world
def test_a_world_is_plain_arrays_and_leaves_a_state_as_it_is(name):
    task = trainers.task(name)
    state = task.start(rng(), 5)
    before = {key: array.copy() for key, array in state.items()}
    after, seen, reward, over = task.step(state, rng().integers(0, len(task.actions), 5), rng())
    assert state.keys() == after.keys() == before.keys()
    for key, array in before.items():
        np.testing.assert_array_equal(state[key], array)
        assert after[key].dtype == array.dtype and after[key].shape == array.shape
        assert not np.shares_memory(after[key], after[next(iter(after.keys() - {key}))])
    assert seen.shape == (5, *task.shape) and seen.dtype == "uint8"
    np.testing.assert_array_equal(seen, task.observation(after))
    assert reward.shape == over.shape == (5,) and over.dtype == bool


@each_world
def test_a_game_does_not_depend_on_those_beside_it(name):
    task = trainers.task(name)
    state = task.start(rng(1), 6)
    actions = rng(2).integers(0, len(task.actions), (30, 6))
    alone = {key: array[3:4] for key, array in state.items()}
    for step in actions:
        state, seen, reward, over = task.step(state, step, rng())
        alone, *found = task.step(alone, step[3:4], rng())
        for one, other in zip(found, (seen, reward, over)):
            np.testing.assert_array_equal(one, other[3:4])
        if over.any():
            break


@each_world
def test_games_go_on_from_their_arrays(name):
    task = trainers.task(name, sticky=0.25)
    games, again = Games(task, 4, rng(1)), Games(task, 4, rng(2))

    def play(some, steps):
        for step in range(*steps):
            chance = rng([3, step])
            yield *some.step(chance.integers(0, len(task.actions), 4), chance), some.frames

    list(play(games, (0, 25)))
    again.arrays = {name: array.copy() for name, array in games.arrays.items()}
    for one, other in zip(play(games, (25, 90)), play(again, (25, 90)), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@each_world
def test_a_world_is_measured_by_whole_games_the_same_ones_each_time(name):
    task = trainers.task(name, most_steps=30)
    one, other = (task.play(None, 300, 1.0) for _ in range(2))
    np.testing.assert_array_equal(one, other)
    returns, steps, over = one
    assert returns.shape == steps.shape == (300,) and steps.min() >= 1 and steps.max() <= 30
    assert over[steps < 30].all()
    assert not np.array_equal(returns, task.play(None, 300, 1.0, "validation")[0])


IN_GRAPHS = [name for name in WORLDS if trainers.task(name).in_graphs]


@pytest.mark.parametrize("name", IN_GRAPHS)
def test_a_world_is_the_same_in_a_graph(name):
    """From games that begin there, by actions of chance: every state, frame, reward and end."""
    task = trainers.task(name, **({"size": 7} if name == "maze" else {}))
    actions = rng(2).integers(0, len(task.actions), (12, 40))

    @tf.function
    def begin(seed):
        return task.start(Chance(seed), tf.shape(seed)[0], ops)

    step = tf.function(lambda state, action: task.step(state, action, None, ops))
    state = {key: x.numpy() for key, x in begin(tf.range(40)).items()}
    like = task.start(rng(), 40)
    assert {k: (x.dtype, x.shape) for k, x in state.items()} == {
        k: (x.dtype, x.shape) for k, x in like.items()
    }
    for action in actions:
        found = keras.tree.map_structure(np.asarray, step(state, action))
        state, *seen = task.step(state, action, None)
        for one, other in zip(keras.tree.flatten(found), keras.tree.flatten((state, *seen))):
            np.testing.assert_array_equal(one, other)


def test_mazes_that_begin_in_a_graph_are_trees_and_balls_fall_everywhere():
    maze, catch = trainers.task("maze", size=9), trainers.task("catch", size=6)
    state = {k: x.numpy() for k, x in maze.start(Chance(tf.range(30)), 30, ops).items()}
    for walls, goal, start in zip(state["walls"], state["goal"], state["player"]):
        assert (~walls).sum() == 16 + 15 and len(ways(walls, tuple(goal))) == 31
        assert tuple(goal) != tuple(start) and not walls[tuple(start)]
    assert len({walls.tobytes() for walls in state["walls"]}) == 30
    state = catch.start(Chance(tf.range(600)), 600, ops)
    for key, least, most in (("column", 0, 5), ("drift", -1, 1), ("paddle", 0, 4)):
        counts = np.bincount(state[key].numpy() - least)
        assert len(counts) == most - least + 1 and counts.min() > 0.7 * counts.mean()


# Games.


def test_frames_are_stacked_the_newest_last_and_never_across_games():
    task = trainers.task("catch", size=4, frames=3)
    games, chance, begun = Games(task, 5, rng()), rng(1), np.zeros(5, int)
    history = [games.frames[..., -1:]]
    for number in range(1, 12):
        _, over, _ = games.step(chance.integers(0, 3, 5), chance)
        history.append(games.frames[..., -1:])
        begun[over] = number
        assert over.all() == (number % 3 == 0)
        for game in range(5):
            places = [max(number - back, begun[game]) for back in (2, 1, 0)]
            expected = np.concatenate([history[place][game] for place in places], axis=-1)
            np.testing.assert_array_equal(games.frames[game], expected)


def test_a_game_that_is_cut_off_is_not_over_and_one_that_is_over_is_not_cut_off():
    task = trainers.task("catch", size=6, most_steps=5)
    games = Games(task, 3, rng())
    for step in range(1, 11):
        _, over, cut = games.step(np.full(3, STAY), rng())
        assert over.all() == (step % 5 == 0) and not cut.any()
        assert len(games.finished) == 3 * (step % 5 == 0)
    games = Games(trainers.task("catch", size=6, most_steps=4), 3, rng())
    for step in range(1, 9):
        _, over, cut = games.step(np.full(3, STAY), rng())
        assert cut.all() == (step % 4 == 0) and not over.any()


def test_a_sticky_action_is_the_one_before():
    task = trainers.task("catch", sticky=1.0, bounces=False)
    games = Games(task, 50, rng())
    first = rng(1).integers(0, 3, 50)
    for step in range(20):
        before = games.state["paddle"]
        games.step(first if step == 0 else rng(step).integers(0, 3, 50), rng())
        np.testing.assert_array_equal(games.state["paddle"], (before + first - 1).clip(0, 22))


def test_epsilon_greedy_chooses_at_random_as_often_as_it_is_told():
    values = np.tile([0.0, 2.0, 1.0, -1.0], (40_000, 1))
    assert (epsilon_greedy(values, 0.0, rng()) == 1).all()
    share = np.bincount(epsilon_greedy(values, 0.2, rng())) / len(values)
    np.testing.assert_allclose(share, [0.05, 0.85, 0.05, 0.05], atol=0.006)


@pytest.mark.parametrize(
    "name, setting, words",
    [
        ("catch", {"paddle": 25}, "paddle of 25"),
        ("catch", {"epsilon": 1.5}, "epsilon must be from 0 to 1, got 1.5"),
        ("maze", {"size": 10}, "odd size of 5 or more, got 10"),
        ("maze", {"frames": 0}, "frames must be 1 or more, got 0"),
    ],
)
def test_a_world_says_what_is_wrong(name, setting, words):
    with pytest.raises(ValueError, match=words):
        trainers.task(name, **setting)


# Catch.


def test_a_ball_falls_bounces_and_is_caught_or_not():
    task = trainers.task("catch", size=4)
    state = state_of(row=0, column=2, drift=1, paddle=0)
    expected = [(1, 3, 1), (2, 2, -1), (3, 1, -1)]
    for (row, column, drift), action, paddle in zip(expected, (RIGHT, STAY, RIGHT), (1, 1, 2)):
        state, seen, reward, over = task.step(state, np.array([action]), rng())
        found = [int(state[name][0]) for name in ("row", "column", "drift", "paddle")]
        assert found == [row, column, drift, paddle]
        ink = {tuple(place) for place in np.argwhere(seen[0, :, :, 0] == 255).tolist()}
        assert ink == {(row, column), (3, paddle), (3, paddle + 1)}
    assert over.tolist() == [True] and reward.tolist() == [0.0]  # column 1, paddle at 2 and 3
    near = state_of(row=2, column=2, drift=-1, paddle=1)
    assert task.step(near, np.array([STAY]), rng())[2].tolist() == [1.0]


@pytest.mark.parametrize("size, paddle", [(10, 1), (10, 2), (24, 2)])
def test_every_ball_can_be_caught_and_a_paddle_at_random_catches_its_share(size, paddle):
    """It goes where the ball will be, which is known from the state; the mean return is the share
    of balls that are caught."""
    task = trainers.task("catch", size=size, paddle=paddle)
    games = Games(task, 500, rng())
    unfolded = games.state["column"] + games.state["drift"] * (size - 1)
    around = unfolded % (2 * size - 2)
    lands = np.minimum(around, 2 * size - 2 - around)
    caught = np.zeros(500)
    for _ in range(size - 1):
        left, right = lands < games.state["paddle"], lands >= games.state["paddle"] + paddle
        reward, over, _ = games.step(STAY - left + right, rng())
        caught += reward
    assert over.all() and caught.all()
    share = task.play(None, 4000, 1.0)[0].mean()
    assert share == pytest.approx(paddle / size, rel=0.25)


# Breakout.

FULL = np.ones((3, 10), bool)


def breakout(row, column, down, right, paddle=0, bricks=FULL, action=STAY):
    """The state after a step, its reward, and whether the game is over."""
    task = trainers.task("breakout_small")
    state = state_of(row=row, column=column, down=down, right=right, paddle=paddle, bricks=bricks)
    state |= state_of(last_row=0, last_column=0)
    state, _, reward, over = task.step(state, np.array([action]), rng())
    one = {name: array[0] for name, array in state.items()}
    place = tuple(int(one[name]) for name in ("row", "column", "down", "right"))
    return place, one["bricks"], float(reward[0]), bool(over[0])


@pytest.mark.parametrize(
    "ball, after",
    [
        ((6, 5, 1, 1), (7, 6, 1, 1)),  # freely
        ((6, 9, 1, 1), (7, 9, 1, -1)),  # off the right wall
        ((6, 0, -1, -1), (5, 0, -1, 1)),  # off the left wall
        ((0, 5, -1, 1), (0, 6, 1, 1)),  # off the top
    ],
)
def test_a_ball_goes_along_diagonals_and_off_walls(ball, after):
    place, bricks, reward, over = breakout(*ball)
    assert (place, reward, over) == (after, 0.0, False)
    np.testing.assert_array_equal(bricks, FULL)


def test_a_brick_breaks_once():
    place, bricks, reward, over = breakout(4, 5, -1, 1)
    assert (place, reward, over) == ((4, 6, 1, 1), 1.0, False)
    assert np.argwhere(~bricks).tolist() == [[2, 6]]
    place, _, reward, _ = breakout(4, 5, -1, 1, bricks=bricks)
    assert (place, reward) == ((3, 6, -1, 1), 0.0)


@pytest.mark.parametrize(
    "paddle, action, place, over",
    [
        (5, STAY, (8, 6, -1, 1), False),  # under the ball: up and on
        (6, LEFT, (8, 6, -1, 1), False),  # the paddle moves first
        (6, STAY, (8, 6, -1, -1), False),  # at a corner: back
        (4, STAY, (9, 6, 1, 1), True),  # lost
    ],
)
def test_a_paddle_sends_the_ball_back_or_loses_it(paddle, action, place, over):
    found, _, reward, ended = breakout(8, 5, 1, 1, paddle, action=action)
    assert (found, reward, ended) == (place, 0.0, over)


def test_new_bricks_come_when_all_are_broken_and_the_ball_is_down():
    assert not breakout(7, 5, 1, 1, bricks=~FULL)[1].any()
    assert breakout(8, 5, 1, 1, 5, bricks=~FULL)[1].all()


def test_breakout_at_random_and_by_one_who_follows_the_ball():
    task = trainers.task("breakout_small", most_steps=300)
    assert 0.2 < task.play(None, 2000, 1.0)[0].mean() < 0.8

    def follow(frames):
        """To the column of the ball."""
        ball = frames[..., 1].any(axis=1).argmax(axis=1)
        return np.sign(ball - frames[:, -1, :, 0].argmax(axis=1)) + 1

    returns, steps, _ = played(task, player(follow), 50, 0.0, rng())
    assert returns.mean() > 5 and steps.mean() > 50


# Mazes.


def ways(walls, goal):
    """Steps from each place to the goal by breadth-first search, a dict."""
    found, queue = {goal: 0}, collections.deque([goal])
    while queue:
        here = queue.popleft()
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            there = here[0] + down, here[1] + right
            if not walls[there] and there not in found:
                found[there] = found[here] + 1
                queue.append(there)
    return found


def test_a_maze_is_a_tree_of_all_cells_with_walls_around():
    task = trainers.task("maze", size=11)
    state = task.start(rng(), 50)
    for walls, goal, start in zip(state["walls"], state["goal"], state["player"]):
        assert walls[[0, -1]].all() and walls[:, [0, -1]].all()
        assert (~walls).sum() == 25 + 24  # a tree: one opening fewer than there are cells
        assert len(ways(walls, tuple(goal))) == 49 and tuple(goal) != tuple(start)
    assert len({walls.tobytes() for walls in state["walls"]}) == 50


def test_the_shortest_way_earns_what_it_must():
    task = trainers.task("maze", size=9, reward=0.5)
    state = task.start(rng(), 20)
    far = [ways(w, tuple(g)) for w, g in zip(state["walls"], state["goal"])]
    length = np.array([one[tuple(p)] for one, p in zip(far, state["player"])])
    moves, total = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)]), np.zeros(20)
    done = np.zeros(20, bool)
    for _ in range(length.max()):
        there = state["player"][:, None] + moves
        steps = [[one.get(tuple(p), 999) for p in some] for one, some in zip(far, there)]
        state, _, reward, over = task.step(state, np.argmin(steps, axis=1), rng())
        total += ~done * reward
        done |= over
    assert done.all()
    np.testing.assert_allclose(total, 0.5 - 0.5 * (length - 1))


def test_a_wall_costs_twice_and_leads_nowhere():
    task = trainers.task("maze", size=5)
    walls = np.ones((5, 5), bool)
    walls[1:4, 1], walls[3, 2:4] = False, False
    state = state_of(walls=walls, goal=(3, 3), player=(1, 1))
    for action, place, reward, over in [
        (0, (1, 1), -2, False),
        (1, (1, 1), -2, False),
        (2, (2, 1), -1, False),
        (2, (3, 1), -1, False),
        (1, (3, 2), -1, False),
        (1, (3, 3), 1, True),
    ]:
        state, seen, found, ended = task.step(state, np.array([action]), rng())
        assert (tuple(state["player"][0]), found[0], ended[0]) == (place, reward, over)
        assert np.argwhere(seen[0, :, :, 2]).tolist() == [list(place)]


# Games that a package plays.


@pytest.mark.parametrize(
    "name, task, model",
    [
        ("dqn_catch", {"size": 8, "frames": 2}, {"units": 8}),
        ("dqn_breakout_small", {"most_steps": 9}, {}),
        ("straw_maze", {"size": 7, "most_steps": 12}, {"filters": 2, "units": 16}),
    ],
)
def test_games_that_are_played_in_a_graph_are_those_of_the_model(name, task, model):
    """Step by step as in this process, with the same world and the same chance."""
    entry = zoo.info(name)
    task = trainers.task(entry.task, **{**entry.task_config, **task})
    keras.utils.set_random_seed(1)
    model = entry.build(task, **{**entry.config, **model})
    seed, steps = np.array([5, 6, 7], "int32"), np.array([12, 9, 3], "int32")
    steps = steps.clip(max=task.most_steps)
    play = tf.function(entry.signatures(model, task)["play"].function)
    found = {k: x.numpy() for k, x in play(steps, np.zeros(3, "float32"), seed).items()}
    most = steps.max()
    assert found["frames"].shape == (3, most + 1, *task.shape[:2], 3)
    assert found["actions"].shape == found["rewards"].shape == found["values"].shape == (3, most)

    state = {k: x.numpy() for k, x in task.start(Chance(tf.constant(seed)), 3, ops).items()}
    games, player, playing = Games(task, 3, rng()), Player(model, 3), np.ones(3, bool)
    games.state, games.frames = state, np.tile(task.observation(state), task.frames)
    length, over = np.zeros(3, int), np.zeros(3, bool)
    for number in range(most):
        chance = _chance.fold(seed, number).numpy()[:, 0].view("int32")
        drawn = coloured(games.frames[..., -task.shape[-1] :])
        shown = np.rint(255 * drawn).astype("uint8")
        np.testing.assert_array_equal(found["frames"][playing, number], shown[playing])
        told = player.look(games.frames, chance)
        action = told["values" if "values" in told else "policy"].argmax(axis=1)
        reward, ended, cut = games.step(action, rng())
        player.begin(ended | cut)
        np.testing.assert_array_equal(found["actions"][:, number], np.where(playing, action, -1))
        earned = np.where(playing, reward, 0).astype("float32")
        np.testing.assert_array_equal(found["rewards"][:, number], earned)
        value = np.where(playing, told["value"], 0)
        np.testing.assert_allclose(found["values"][:, number], value, rtol=1e-4, atol=1e-5)
        length, over = length + playing, over | (playing & ended)
        playing = playing & ~ended & (number + 1 < steps)
    np.testing.assert_array_equal(found["length"], length)
    np.testing.assert_array_equal(found["over"], over)


def test_a_game_in_a_graph_says_what_is_wrong():
    entry = zoo.info("dqn_catch")
    task = trainers.task("catch", size=6, most_steps=5)
    play = entry.signatures(entry.build(task, **entry.config), task)["play"].function
    for steps, epsilon in ((6, 0.0), (0, 0.0), (2, 1.5)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be"):
            play(tf.constant([steps]), tf.constant([epsilon]), tf.constant([1]))


def test_a_game_is_read_as_text_and_seen_as_an_animation():
    task = trainers.task("catch", size=6)
    notation = zoo.info("dqn_catch").notation(task)["play"]
    assert notation.read(["-3"])["seed"].tolist() == [-3]
    with pytest.raises(ValueError, match="the seed of a game; got 'x'"):
        notation.read(["x"])
    frames = np.arange(6, dtype="uint8")[:, None, None, None] * np.full(
        (1, 1, 6, 6, 3), 40, "uint8"
    )
    outputs = {
        "frames": frames,
        "actions": np.array([[0, 1, 2, -1, -1]]),
        "rewards": np.array([[0, 0, 1.0, 0, 0]]),
        "length": np.array([3]),
        "over": np.array([True]),
    }
    inputs = {"seed": np.array([7])}
    assert notation.show(inputs, outputs) == ["return 1, over after 3 steps: left stay right"]
    (picture,) = notation.picture(inputs, outputs)
    with Image.open(io.BytesIO(picture.gif)) as gif:
        assert gif.n_frames == 4 and gif.size == (48, 48)
