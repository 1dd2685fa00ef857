"""The directory of all models: who may write in it, and the files beside the models.

`models.config` says what a server serves, `monitoring.config` where it counts requests and
`ssl.config`, where there is one, how it encrypts gRPC; `run/` has the recipes to start one.
"""

import os
import re
import ssl

from ..trainers._files import locked, write_file
from . import _recipes, _schema
from ._config import (
    CONFIG,
    METRICS_PATH,
    MONITORING,
    TLS,
    ModelServerConfig,
    chosen_versions,
    parse_config,
    version_directories,
)
from ._version import Failure

_POLICY = re.compile(r"all|latest:[1-9][0-9]*|specific:[0-9]+(?:,[0-9]+)*")
_LABEL = re.compile(r"[A-Za-z0-9_]+")


def alone(output):
    """Holds the directory's lock; others wait."""
    return locked(os.path.join(output, ".lock"))


def sync(path):
    """Brings a file or the names in a directory to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path, text, mode=0o644):
    """`write_file` whose new name is on disk, too, before anything else is written."""
    write_file(path, text, mode)
    sync(os.path.dirname(path))


def read(output):
    """The directory's `ModelServerConfig`, an empty one where there is none yet."""
    path = os.path.join(output, CONFIG)
    return parse_config(path) if os.path.exists(path) else ModelServerConfig()


def plan(output, name, version, versions=None, labels=None):
    """The `ModelServerConfig` of a directory once a version has been added.

    Models of `output` that are not listed yet come with it; what is said of others stays.

    Args:
        output: the absolute path of the directory of all models.
        name: the model that gets a version.
        version: its number.
        versions: which versions to serve: "latest:2", "all" or "specific:1,2"; None leaves it.
        labels: dict: label -> version number, beside the labels that are there; None leaves them.

    Raises:
        ValueError: the policy or a label asks for a version that would not be there.
    """
    config = read(output)
    blocks = {block.name: block for block in config.model_config_list.config}
    found = {entry: os.path.join(output, entry) for entry in sorted(os.listdir(output))}
    unlisted = {
        key: path for key, path in found.items() if key not in blocks and version_directories(path)
    }
    home = os.path.join(output, name)
    for key, path in {**unlisted, name: home}.items():
        block = blocks.get(key) or config.model_config_list.config.add(name=key)
        block.base_path, block.model_platform = path, "tensorflow"
        blocks[key] = block
    block = blocks[name]
    if versions is not None:
        _set_policy(block.model_version_policy, versions)
    for label, number in (labels or {}).items():
        if not _LABEL.fullmatch(label):
            raise ValueError(f"a label is letters, digits and _, got {label!r}")
        block.version_labels[label] = number
    _check(block, {*version_directories(home), version})
    return config


def _set_policy(policy, text):
    if not _POLICY.fullmatch(text):
        raise ValueError(f"versions must be all, latest:2 or specific:1,2, got {text!r}")
    kind, _, numbers = text.partition(":")
    policy.Clear()
    if kind == "all":
        policy.all.SetInParent()
    elif kind == "latest":
        policy.latest.num_versions = int(numbers)
    else:
        policy.specific.versions.extend(sorted({int(number) for number in numbers.split(",")}))


def served(block, numbers):
    """Of the version numbers that are there those that a `ModelConfig` asks for, and in words."""
    policy, words = block.model_version_policy, "all"
    if policy.HasField("specific"):
        words = "specific:" + ",".join(map(str, policy.specific.versions))
    elif not policy.HasField("all"):
        words = f"latest:{policy.latest.num_versions or 1}"
    return chosen_versions(policy, numbers), words


def _check(block, numbers):
    """Raises `ValueError` where a policy or a label asks for what is not there."""
    missing = {*block.model_version_policy.specific.versions} - numbers
    if missing:
        raise ValueError(
            f"{block.name} has no version {min(missing)} to serve; there are {sorted(numbers)}"
        )
    chosen, words = served(block, numbers)
    for label, number in sorted(block.version_labels.items()):
        if number not in numbers:
            raise ValueError(
                f"label {label!r} is for version {number} of {block.name}, and there are "
                f"{sorted(numbers)}"
            )
        if number not in chosen:
            raise ValueError(
                f"label {label!r} is for version {number} of {block.name}, which {words} does not "
                f"serve: that is {sorted(chosen)}. Give the label to one of them, or choose other "
                "versions, such as `--versions all`"
            )


def publish(output, config):
    """Writes `models.config`, `monitoring.config` and the recipes; the lock must be held."""
    replace(os.path.join(output, CONFIG), _schema.write_text(config))
    monitoring = _schema.MonitoringConfig()
    monitoring.prometheus_config.enable = True
    monitoring.prometheus_config.path = METRICS_PATH
    path = os.path.join(output, MONITORING)
    if not os.path.exists(path):
        replace(path, _schema.write_text(monitoring))
    _write_recipes(output, config)


def _write_recipes(output, config):
    folder = os.path.join(output, _recipes.FOLDER)
    os.makedirs(folder, exist_ok=True)
    for name, text in _recipes.render(output, config).items():
        replace(os.path.join(folder, name), text, 0o755 if name.endswith(".sh") else 0o644)


def secure(output, key, certificate, authority=None, verify=False):
    """Writes `ssl.config`, by which a server encrypts gRPC, readable by its owner alone.

    Args:
        output: directory of all models.
        key: PEM file of the server's private key, without a password.
        certificate: PEM file of its certificate, followed by those that vouch for it.
        authority: PEM file of the certificates that vouch for clients.
        verify: whether clients must show a certificate.

    Returns:
        The path of the file.

    Raises:
        OSError: a file cannot be read.
        ValueError: the key is not that of the certificate, or a file is not PEM.
    """
    if verify and not authority:
        raise ValueError("to verify clients the server needs --tls_ca, whose certificates to trust")
    _check_pem(key, certificate, authority)

    def content(path):
        if not path:
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()

    config = _schema.SSLConfig(
        server_key=content(key),
        server_cert=content(certificate),
        custom_ca=content(authority),
        client_verify=verify,
    )
    output = os.path.abspath(output)
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, TLS)
    with alone(output):
        replace(path, _schema.write_text(config), 0o600)
        if os.path.exists(os.path.join(output, CONFIG)):
            _write_recipes(output, read(output))
    return path


def _check_pem(key, certificate, authority):
    def no_password():
        raise ValueError(f"{key} has a password, and a server cannot ask for it")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for path in filter(None, (key, certificate, authority)):
        with open(path, "rb"):
            pass
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        raise ValueError(
            f"{key} and {certificate} are no PEM files of a key and its certificate ({reason})"
        ) from error
    if authority:
        try:
            context.load_verify_locations(authority)
        except ssl.SSLError as error:
            raise ValueError(f"{authority} holds no PEM certificates ({error.reason})") from error


def packages(path):
    """Version directories to verify in a path: a repository, one model's, or one version itself.

    A repository is read folder by folder, and not by the paths in `models.config`, which are those
    of the machine that exported it.
    """
    path = os.path.abspath(path)
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        return [path]
    homes = [path]
    if os.path.isdir(path):
        homes += [entry.path for entry in sorted(os.scandir(path), key=lambda entry: entry.name)]
    if os.path.exists(os.path.join(path, CONFIG)):
        homes += [block.base_path for block in read(path).model_config_list.config]
    found = {}
    for home in homes:
        for _, directory in sorted(version_directories(home).items()):
            found.setdefault(os.path.realpath(directory), directory)
    if not found:
        raise FileNotFoundError(f"{path} holds no model: no <name>/<version>/saved_model.pb")
    return list(found.values())


def failures(output):
    """What is wrong with the files beside the models: a list of `Failure`."""
    found, path = [], os.path.join(output, CONFIG)
    if os.path.exists(path):
        try:
            blocks = parse_config(path).model_config_list.config
        except ValueError as error:
            return [Failure(CONFIG, str(error), "export again, or write what `serve` can read")]
        names = [block.name for block in blocks]
        for name in sorted({name for name in names if names.count(name) > 1}):
            found.append(Failure(CONFIG, f"it lists {name} twice", "take one of them away"))
        for block in blocks:
            found.extend(_block_failures(block))
    for name, message in ((MONITORING, "MonitoringConfig"), (TLS, "SSLConfig")):
        path = os.path.join(output, name)
        if os.path.exists(path):
            try:
                _schema.read_text(path, getattr(_schema, message)())
            except ValueError as error:
                found.append(Failure(name, str(error), "export again"))
    return found


def _block_failures(block):
    base = block.base_path
    if "://" in base:
        return
    if not os.path.isabs(base):
        rule = f"the base_path of {block.name} is {base!r}, which is not absolute"
        yield Failure(CONFIG, rule, "write the whole path")
        return
    numbers = version_directories(base)
    if not numbers:
        rule = f"{block.name} has no version in {base}"
        mend = "write where it lies now; run/models.config, which goes by /models, may stay"
        yield Failure(CONFIG, rule, mend)
        return
    try:
        _check(block, {*numbers})
    except ValueError as error:
        yield Failure(CONFIG, str(error), "change the policy or the label")
