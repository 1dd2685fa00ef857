"""What the tests share."""

import os
import shutil
import subprocess
import sys

import pytest
from ponderzoo.export._session import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow tells of processors and drivers while it is loaded, whatever the level; pytest would
# print it behind its last line.
with quiet():
    import keras

# XLA compiles what the tests ask for in a third of its usual time, to plainer code. What it makes
# with the settings that users have is tested in `test_xla.py`. XLA reads this once, at its first
# compilation.
PLAIN = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
PLAIN += " --xla_llvm_disable_expensive_passes=true"
OWN_FLAGS = os.environ.get("XLA_FLAGS", "").replace(PLAIN, "").strip()
os.environ["XLA_FLAGS"] = f"{PLAIN} {OWN_FLAGS}".strip()


def run_fresh(code, *arguments, backend="tensorflow", plain=True):
    """Runs Python code in a process of its own, beside the tests, and returns what it printed.

    Without `plain` XLA compiles there as it does for users.
    """
    flags = os.environ["XLA_FLAGS"] if plain else OWN_FLAGS
    own = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": flags}
    found = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=os.path.dirname(__file__),
        env={**os.environ, **own},
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


@pytest.fixture(scope="session")
def make_certificate():
    """`make_certificate(folder, name)` writes `name.key` and `name.crt`, signed by itself, as PEM.

    The certificate is that of this machine's loopback address.
    """
    if not shutil.which("openssl"):
        pytest.skip("openssl, which makes the certificate, is not there")

    def make(folder, name):
        command = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        command += ["-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return folder / f"{name}.key", folder / f"{name}.crt"

    return make


@pytest.fixture
def policy():
    """Sets the global dtype policy for the length of a test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)
