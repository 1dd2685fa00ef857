"""Windows: where a model looks at an image, or paints one, step by step."""

from ...trainers.tasks._images import SIDES

OVER = {"read_windows": "image", "write_windows": "steps"}
"""The outputs of models that are windows, and what they lie on."""

_SAID = (
    "at each step, "
    + ", ".join(SIDES[:4])
    + (
        " in pixels from the upper left corner, the deviation of the filters in pixels, and the "
        f"intensity, (batch, steps, {len(SIDES)}), or where it is by several windows at once "
        f"(batch, steps, windows, {len(SIDES)})"
    )
)
MEANINGS = {
    "read_windows": f"where the image is looked at {_SAID}",
    "write_windows": f"where it is painted {_SAID}",
}


def shown(outputs):
    """Keyword arguments of `Signature` for those of the outputs that are windows."""
    found = [name for name in OVER if name in outputs]
    return {"names": dict.fromkeys(found, SIDES), "over": {name: OVER[name] for name in found}}
