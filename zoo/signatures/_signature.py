"""What a served function is."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Signature:
    """One served function.

    Attributes:
        function: takes the named tensors of `inputs`, returns a dict of named tensors (TensorFlow).
        inputs: name -> (shape with None where it varies, dtype name); the batch axis comes first.
        sample: name -> numpy array, a real request of two rows or more.
        outputs: name -> what it means, in words.
        names: name of an output -> what the places along its last axis are called, where they are
            called something.
        images: names of inputs and outputs that are images, `(batch, height, width)`, or outputs in
            steps, `(batch, steps, height, width)`, of pixels from 0 (paper) to 1 (ink).
        levels: 0, or of how many levels the images' pixels have each of their colours, red, green
            and blue along one more axis, the last: from 0 (dark) to levels - 1.
        maps: names of outputs that are a number for each pixel, `(batch, height, width)`.
        over: name of an output that is windows, as `_windows` has them -> the image that they lie
            on, an output in as many steps or an input.
    """

    function: Callable
    inputs: dict
    sample: dict
    outputs: dict
    names: dict = dataclasses.field(default_factory=dict)
    images: tuple = ()
    levels: int = 0
    maps: tuple = ()
    over: dict = dataclasses.field(default_factory=dict)


def handed_on(answer, told):
    """What a model tells of itself beside its answer: the outputs that `told` names."""
    return {name: answer[name] for name in told}
