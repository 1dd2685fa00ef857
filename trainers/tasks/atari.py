"""Games of the Atari 2600 in an emulator (Bellemare et al., 2013; Mnih et al., 2013, section 5)."""

import dataclasses
import functools

import numpy as np
from PIL import Image

from ._acting import FRAMES, Acting

SIDE, HEIGHT, ABOVE = 84, 110, 18  # of what is seen; of the screen made small; what is cut off it
ACTIONS = ("nothing", "fire", "up", "right", "left", "down", "up right", "up left", "down right")
ACTIONS += ("down left", *(f"{name} and fire" for name in ACTIONS[2:]), "down left and fire")
GAMES = {
    "beam_rider": (0, 1, 2, 3, 4, 6, 7, 11, 12),
    "breakout": (0, 1, 3, 4),
    "enduro": (0, 1, 3, 4, 5, 8, 9, 11, 12),
    "frostbite": range(18),
    "ms_pacman": (0, 2, 3, 4, 5, 6, 7, 8, 9),
    "pong": (0, 1, 3, 4, 11, 12),
    "qbert": (0, 1, 2, 3, 4, 5),
    "seaquest": range(18),
    "space_invaders": (0, 1, 3, 4, 11, 12),
}
"""The actions that do something, by the numbers of the emulator."""


@dataclasses.dataclass(frozen=True)
class Atari(Acting):
    """Play a game of the Atari 2600 by what is on the screen.

    The emulator and the games come with `pip install 'ponderzoo[atari]'`; the games are those of
    `GAMES`. An action is taken for `skip` frames, of which the last is seen: made grey, 110 by 84
    pixels small, and cut to 84 by 84 around the field. A game begins with up to `no_ops` frames in
    which nothing is done, so many by chance. Scores are those of the game, without any change. The
    paper sees 4 frames at once, skips 4, or 3 in Space Invaders, and has no such beginning; it has
    no `sticky` actions either. A game is cut off after five minutes. The whole emulator is part of
    the state. See `Acting` for what goes in and comes out.

    Raises:
        ValueError: there is no such game.
        ImportError: the emulator is not installed, once it is played.
    """

    frames: int = 4
    most_steps: int = 4500
    game: str = "pong"
    skip: int = 4
    no_ops: int = 0
    shape = (SIDE, SIDE, 1)
    in_graphs = False
    evaluation_batch = 8
    called = {"mean_return": "mean score", "best_return": "best score"}

    def __post_init__(self):
        super().__post_init__()
        if self.game not in GAMES:
            raise ValueError(f"atari takes a game of {', '.join(GAMES)}; got {self.game!r}")

    @property
    def actions(self):
        return tuple(ACTIONS[number] for number in GAMES[self.game])

    @property
    def corpus(self):
        return f"the game {self.game} of the Atari 2600, as ale-py emulates it"

    def start(self, rng, rows):
        emulator, states, screens, lives = _emulator(self.game), [], [], []
        for wait in rng.integers(0, self.no_ops + 1, rows):
            emulator.reset_game()
            for _ in range(wait):
                emulator.act(0)
            states.append(_state_of(emulator))
            screens.append(small_screen(emulator.getScreenGrayscale()))
            lives.append(emulator.lives())
        return {
            "emulator": np.stack(states),
            "screen": np.stack(screens),
            "lives": np.array(lives),
        }

    def step(self, state, actions, rng):
        from ale_py import ALEState

        emulator, numbers = _emulator(self.game), tuple(GAMES[self.game])
        after = {name: array.copy() for name, array in state.items()}
        rewards, over = np.zeros(len(actions)), np.zeros(len(actions), bool)
        for row, action in enumerate(actions):
            emulator.restoreState(ALEState(state["emulator"][row].tobytes()))
            for _ in range(self.skip):
                rewards[row] += emulator.act(numbers[action])
            over[row] = emulator.game_over()
            after["emulator"][row] = _state_of(emulator)
            after["screen"][row] = small_screen(emulator.getScreenGrayscale())
            after["lives"][row] = emulator.lives()
        return after, self.observation(after), rewards, over

    def observation(self, state):
        return state["screen"][..., None]

    def lost(self, before, after):
        return after["lives"] < before["lives"]

    def inputs_without_data(self, rng, size):
        """Screens of chance, which need no emulator."""
        return {FRAMES: rng.integers(0, 256, (size, SIDE, SIDE, self.frames), "uint8")}


def small_screen(screen):
    """A screen of 210 by 160, in grey or in colours, as 84 by 84 of grey, uint8 (section 4.1)."""
    grey = Image.fromarray(screen).convert("L")
    small = grey.resize((SIDE, HEIGHT), Image.Resampling.BILINEAR)
    return np.asarray(small)[ABOVE : ABOVE + SIDE]


@functools.cache
def _emulator(game):
    try:
        from ale_py import ALEInterface, LoggerMode, roms
    except ImportError as error:
        raise ImportError(
            f"the game {game} needs an emulator: pip install 'ponderzoo[atari]'"
        ) from error
    ALEInterface.setLoggerMode(LoggerMode.Error)
    emulator = ALEInterface()
    emulator.setInt("random_seed", 0)
    emulator.setFloat("repeat_action_probability", 0.0)
    emulator.loadROM(roms.get_rom_path(game))
    return emulator


def _state_of(emulator):
    return np.frombuffer(emulator.cloneState().serialize(), "uint8")
