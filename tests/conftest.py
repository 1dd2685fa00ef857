"""What the tests share."""

import os
import subprocess
import sys

import keras
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def run_fresh(code, *arguments, backend="tensorflow"):
    """Runs Python code in a process of its own, beside the tests, and returns what it printed."""
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=os.path.dirname(__file__),
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert found.returncode == 0, found.stdout[-4000:] + found.stderr[-8000:]
    return found.stdout


@pytest.fixture(scope="session")
def fresh():
    """`run_fresh`."""
    return run_fresh


@pytest.fixture
def policy():
    """Sets the global dtype policy for the length of a test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
