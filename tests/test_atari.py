"""Atari games: what is seen of the screen, and games that go on from a state of plain bytes."""

import sys

import numpy as np
import pytest
from ponderzoo import trainers
from ponderzoo.trainers.tasks import atari
from ponderzoo.trainers.tasks._acting import Games

ale_py = pytest.importorskip("ale_py")


def rng(seed=0):
    return np.random.default_rng(seed)


def test_the_screen_is_made_small_and_cut_above_and_below():
    """A block of a synthetic screen comes to where it must, taller than wide."""
    screen = np.zeros((210, 160), "uint8")
    screen[105:126, 40:60] = 200
    small = atari.small_screen(screen)
    assert small.shape == (84, 84) and small.dtype == "uint8"
    rows, columns = np.argwhere(small > 100).T
    assert (rows.min(), rows.max()) == (55 - 18, 66 - 18 - 1)  # of 110 lines, 18 cut off
    assert (columns.min(), columns.max()) == (21, 30)
    assert atari.small_screen(np.full((210, 160), 255, "uint8")).min() == 255
    outside = np.zeros((210, 160), "uint8")
    outside[:33], outside[-14:] = 255, 255
    assert not atari.small_screen(outside).any()


def test_colours_are_made_grey_as_they_are_seen():
    screen = np.zeros((210, 160, 3), "uint8")
    screen[..., 1] = 100
    np.testing.assert_allclose(atari.small_screen(screen), 0.587 * 100, atol=1)


@pytest.mark.parametrize("game", ["pong", "breakout"])
def test_actions_are_those_of_the_emulator(game):
    emulator = atari._emulator(game)
    assert [a.value for a in emulator.getMinimalActionSet()] == [*atari.GAMES[game]]
    task = trainers.task("atari", game=game)
    names = [a.name.lower() for a in emulator.getMinimalActionSet()]
    for name, ours in zip(names, task.actions):
        ours = ours.replace("nothing", "noop").replace(" and ", "").replace(" ", "")
        assert ours == name


def test_a_game_is_that_of_the_emulator_and_of_nobody_beside_it():
    """Three games at once, whose states are bytes, beside an emulator that plays without a stop."""
    task, choose = trainers.task("atari", skip=3), rng(1)
    games = Games(task, 3, rng())
    actions = choose.integers(0, 6, (150, 3))
    emulator = ale_py.ALEInterface()
    emulator.setInt("random_seed", 0)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.loadROM(ale_py.roms.get_rom_path("pong"))
    emulator.reset_game()
    scored = 0
    for several in actions:
        reward, over, cut = games.step(several, rng())
        number = atari.GAMES["pong"][several[1]]
        expected = sum(emulator.act(number) for _ in range(3))
        assert reward[1] == expected and over[1] == emulator.game_over() and not cut.any()
        screen = atari.small_screen(emulator.getScreenGrayscale())
        np.testing.assert_array_equal(games.frames[1, ..., -1], screen)
        scored += expected != 0
    assert scored


def test_a_lost_life_is_told_and_ends_no_game():
    task = trainers.task("atari", game="breakout")
    games, lives, lost = Games(task, 2, rng()), 5, 0
    for step in range(150):
        before = games.state
        _, over, _ = games.step(np.array([1 + step % 2, 0]), rng())
        assert not over.any() and not task.lost(before, games.state)[1]
        lost += task.lost(before, games.state)[0]
        assert games.state["lives"].tolist() == [lives - lost, lives]
    assert lost > 1


def test_games_go_on_from_their_arrays_and_begin_by_chance():
    task = trainers.task("atari", no_ops=30, sticky=0.25)
    games = Games(task, 2, rng(1))
    assert not np.array_equal(*games.state["emulator"])
    again = Games(task, 2, rng(2))
    again.arrays = {name: array.copy() for name, array in games.arrays.items()}
    for step in range(20):
        actions = rng(step).integers(0, 6, 2)
        for one, other in zip(games.step(actions, rng(step)), again.step(actions, rng(step))):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(games.frames, again.frames)


def test_what_is_missing_is_said_in_a_line(monkeypatch):
    with pytest.raises(ValueError, match="got 'chess'"):
        trainers.task("atari", game="chess")
    monkeypatch.setitem(sys.modules, "ale_py", None)
    atari._emulator.cache_clear()
    task = trainers.task("atari")
    assert len(task.inputs_without_data(rng(), 2)["frames"]) == 2
    with pytest.raises(ImportError, match=r"pip install 'ponderzoo\[atari\]'"):
        task.start(rng(), 1)
