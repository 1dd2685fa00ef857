"""What the tests share."""

import os
import shutil
import subprocess

import pytest
from fresh import Nursery
from ponderzoo.export._session import quiet

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow tells of processors and drivers while it is loaded, whatever the level; pytest would
# print it behind its last line.
with quiet():
    import keras

# Commands that need no TensorFlow would choose JAX, for all processes that come after them.
os.environ["KERAS_BACKEND"] = keras.backend.backend()

# What tests write need not outlive the machine, and waiting for a disk takes them minutes.
os.fsync = lambda file: None

# XLA compiles what the tests ask for in a third of its usual time, to plainer code. What it makes
# with the settings that users have is tested in `test_xla.py`. XLA reads this once, at its first
# compilation.
PLAIN = "--xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
PLAIN += " --xla_llvm_disable_expensive_passes=true"
OWN_FLAGS = os.environ.get("XLA_FLAGS", "").replace(PLAIN, "").strip()
os.environ["XLA_FLAGS"] = f"{PLAIN} {OWN_FLAGS}".strip()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Starts all chance anew before a test and its fixtures, so that a failure comes again."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def fresh():
    """`fresh(code, *arguments)` runs Python code in a process of its own, and returns what it says.

    `backend` is Keras's there. Without `plain` XLA compiles as it does for users. `ends` is the
    code that the process must end with, minus the signal of one that is killed. Further settings
    go into its environment.
    """
    nurseries = {}

    def run(code, *arguments, backend="tensorflow", plain=True, ends=0, **environment):
        if backend not in nurseries:
            nurseries[backend] = Nursery(backend)
        environment["XLA_FLAGS"] = os.environ["XLA_FLAGS"] if plain else OWN_FLAGS
        done = nurseries[backend].run(code, arguments, environment)
        assert done.returncode == ends, done.stdout[-4000:] + done.stderr[-8000:]
        return done.stdout

    yield run
    for nursery in nurseries.values():
        nursery.close()


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """A directory with a few images in the form of MNIST, which all tests read and none changes."""
    from ponderzoo.trainers.data import mnist

    folder = tmp_path_factory.mktemp("digits")
    mnist.sample(folder)
    return str(folder)


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
