"""What an agent remembers of its games: a ring of frames in a file."""

import os

import numpy as np

from ._files import naming, reading

REMEDY = "restore it from a copy, or begin the run anew in another run_dir"


class Replay:
    """The last steps of games, a column for each actor, in a file that is mapped into memory.

    Each frame is kept once; what was seen at a step is rebuilt of the frames before. What was seen
    next stands at the step after it, unless the game was cut off there: such steps are not drawn.

    The ring is longer than what is drawn from by `spare` steps, so that steps which a killed run
    took after its last save were laid over none that it needs to go on from there. They are laid
    there again.

    Args:
        path: the file.
        shape: of a frame, `(height, width, planes)` uint8.
        actors: how many games are played at once.
        capacity: steps of all actors that are drawn from.
        spare: the most steps of each actor that are added between two saves.
        frames: how many are seen at once.
        head: how many steps of each actor were added, where the file is there; 0 makes a new one.

    Attributes:
        head: how many steps of each actor were added so far.

    Raises:
        OSError: the disk is full, or the file cannot be opened.
        ValueError: the file is not that of such a ring, or too little is kept to draw from.
    """

    def __init__(self, path, shape, actors, capacity, spare, frames=1, head=0):
        self.path, self.actors, self.frames, self.head = path, actors, frames, head
        self.kept = capacity // actors
        if self.kept < frames + 2:
            raise ValueError(
                f"a replay of {frames} frames at once and {actors} actors needs a capacity of "
                f"{(frames + 2) * actors} steps or more, got {capacity}"
            )
        self.slots = self.kept + spare
        kind = np.dtype(
            [
                ("frame", "uint8", shape),
                ("action", "uint8"),
                ("reward", "float32"),
                ("over", "bool"),
                ("cut", "bool"),
                ("age", "uint8"),
            ]
        )
        size = self.slots * actors * kind.itemsize
        if not head:
            with naming(path), open(path, "wb") as file:
                # Now, as there is no way to say later that the disk is full.
                os.posix_fallocate(file.fileno(), 0, size)
        there = os.path.getsize(path)
        with reading(path, REMEDY):
            if there != size:
                raise ValueError(f"it has {there} bytes and not {size}")
            self._file = np.memmap(path, kind, "r+", shape=(self.slots, actors))
        self._ring = self._file.view(np.ndarray)

    def add(self, frame, action, reward, over, cut, age):
        """Adds a step of each actor.

        Args:
            frame: the newest frame that was seen before the action, `(actors, *shape)`.
            action, reward: `(actors,)`, what was done and what it earned.
            over, cut: `(actors,)`, whether the game ended there, or was cut off.
            age: `(actors,)`, how many steps of the game came before.
        """
        slot = self._ring[self.head % self.slots]
        slot["frame"], slot["action"], slot["reward"] = frame, action, reward
        slot["over"], slot["cut"] = over, cut
        slot["age"] = np.minimum(age, self.frames - 1)
        self.head += 1

    def sample(self, rng, size):
        """So many steps at random, each as likely as any other, with replacement.

        Returns:
            Dict of arrays, a row a step: `frames` and `next_frames`, `(size, height, width, planes
            * frames)` uint8; `action` int32, `reward` float32 and `over` bool. Where a game is
            over, `next_frames` say nothing.

        Raises:
            ValueError: too few steps were added.
        """
        first = self.head - self.kept + self.frames - 1 if self.head > self.kept else 0
        if self.head - 1 <= first:
            raise ValueError(f"{self.head} steps of an actor are too few to draw from")
        step, actor = np.zeros((2, size), "int64")
        drawn = np.ones(size, bool)
        while drawn.any():
            step[drawn] = rng.integers(first, self.head - 1, drawn.sum())
            actor[drawn] = rng.integers(0, self.actors, drawn.sum())
            drawn = self._ring["cut"][step % self.slots, actor]
        row = self._ring[step % self.slots, actor]
        return {
            "frames": self._seen(step, actor),
            "next_frames": self._seen(step + 1, actor),
            "action": row["action"].astype("int32"),
            "reward": row["reward"],
            "over": row["over"],
        }

    def _seen(self, step, actor):
        """The frames that were seen at steps; those before a game are its first one."""
        age = self._ring["age"][step % self.slots, actor]
        back = np.minimum(np.arange(self.frames)[::-1], age[:, None])
        frames = self._ring["frame"][(step[:, None] - back) % self.slots, actor[:, None]]
        rows, _, height, width, _ = frames.shape
        return frames.transpose(0, 2, 3, 1, 4).reshape(rows, height, width, -1)

    def flush(self):
        """Writes to the disk what is not there yet."""
        with naming(self.path):
            self._file.flush()

    def remove(self):
        """Ends it, and removes the file."""
        del self._file, self._ring
        os.remove(self.path)
