"""What is still done where this process has ended, however it ended."""

import contextlib
import subprocess


@contextlib.contextmanager
def outlived_by(command):
    """Gives a function of a line, for a shell that outlives this process.

    Where this process ends before the context, by SIGKILL or C++ as well, the shell runs `command`,
    which finds the last line that it was given in `$line`. An empty one asks for nothing.
    """
    shell = subprocess.Popen(
        ["sh", "-c", f'while read -r next; do line=$next; done; [ -z "$line" ] || {command}'],
        stdin=subprocess.PIPE,
        stdout=2,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # the keyboard ends it not
        text=True,
    )
    try:
        yield lambda line: print(line, file=shell.stdin, flush=True)
    finally:
        shell.communicate("\n")
