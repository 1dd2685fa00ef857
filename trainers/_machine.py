"""What a run knows of the machine and of the code that it runs on."""

import contextlib
import ctypes
import os
import platform
import subprocess

import keras


def keep_freed_memory():
    """Has glibc keep what is freed instead of giving it back to the system.

    XLA allots the buffers of a step anew each time; where they come as fresh pages from the system,
    the page faults can take longer than the arithmetic (twice the time of a step was seen).
    """
    options = {"M_TRIM_THRESHOLD": -1, "M_TOP_PAD": -2, "M_MMAP_THRESHOLD": -3}
    sizes = {"M_TRIM_THRESHOLD": 2**31 - 1, "M_TOP_PAD": 2**28, "M_MMAP_THRESHOLD": 2**30}
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for name, option in options.items():
            library.mallopt(option, sizes[name])


def hardware(cores_used):
    """Model of the processor, cores used on average and there, and accelerators."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.partition(":")[2].strip() for line in file if line[:10] == "model name"]
        name = (names or [name])[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = [d for d in keras.distribution.list_devices() if not d.lower().startswith("cpu")]
    return ", ".join([f"{name}, {cores_used:.1f} of {cores} cores", *devices])


DIRTY = "-dirty"


def commit():
    """Commit that this code stands at, with `-dirty` where it was changed; None outside git."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        for command in (["ls-files", "--error-unmatch", "_machine.py"], ["describe", "--always"]):
            options = (
                [f"--dirty={DIRTY}", "--abbrev=40", "--exclude=*"]
                if command[0] == "describe"
                else []
            )
            done = subprocess.run(
                ["git", "-C", here, *command, *options], capture_output=True, text=True, check=True
            )
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
