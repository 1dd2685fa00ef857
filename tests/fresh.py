"""Processes of their own for tests, without the seconds that it takes to import TensorFlow.

Run as a program this is a process that has imported it, computes nothing, and forks for each piece
of code that it is sent.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile

TIMEOUT = 600  # seconds that code may take


class Nursery:
    """Starts processes that run Keras on one backend.

    Args:
        backend: "tensorflow" or "jax".
    """

    def __init__(self, backend):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=os.path.dirname(__file__),
            env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def run(self, code, arguments, environment):
        """Runs Python code as `python -c` would, and returns a `subprocess.CompletedProcess`."""
        with tempfile.TemporaryDirectory() as home:
            files = [os.path.join(home, name) for name in ("stdout", "stderr")]
            request = [code, list(map(str, arguments)), environment, files]
            print(json.dumps(request), file=self._process.stdin, flush=True)
            status = int(self._process.stdout.readline())
            said = []
            for file in files:
                with open(file, encoding="utf-8", errors="replace") as text:
                    said.append(text.read())
        return subprocess.CompletedProcess(code, status, *said)

    def close(self):
        """Ends it."""
        self._process.communicate()


def next_child():
    """Forks for each request, and returns it in the process that is to do it; None at the end."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    return None


def main():
    """Reads requests until its input ends, as do the processes that it starts."""
    with contextlib.suppress(ImportError):  # brings Keras and its backend
        import tensorflow  # noqa: F401
    request = next_child()
    if request:
        code, arguments, environment, files = request
        for number, file in enumerate(files, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(environment)
        sys.argv, sys.path[0] = ["-c", *arguments], ""
        signal.alarm(TIMEOUT)
        exec(code, {"__name__": "__main__"})


if __name__ == "__main__":
    main()
