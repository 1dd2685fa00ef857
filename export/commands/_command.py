"""What the commands share."""

import importlib.util
import os
import sys

from .._session import quiet

PROGRAM = [sys.executable, "-m", "ponderzoo.export._cli"]
ERRORS = (ValueError, ArithmeticError, OSError, ImportError, RuntimeError)


def _import(needs):
    """Imports what a command needs without its banner: nothing, "keras" to look, or "all"."""
    if needs == "keras" and importlib.util.find_spec("jax"):
        # Half as long as TensorFlow takes.
        os.environ.setdefault("KERAS_BACKEND", "jax")
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend!r}")
    if needs:
        with quiet():
            # To train on JAX, too, Keras loads TensorFlow.
            importlib.import_module("keras" if needs == "keras" else "tensorflow")


def _print(values):
    for key, value in values.items():
        print(f"  {key:24} {value:.6g}" if isinstance(value, float) else f"  {key:24} {value}")
