"""What a server is told to serve: `models.config` and the directories it names."""

import os
import re

from . import _tensors
from ._schema import read_text

with _tensors.light_protos():
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig, ModelType

CONFIG, MONITORING, TLS = "models.config", "monitoring.config", "ssl.config"
_PLATFORM = "tensorflow"
METRICS_PATH = "/monitoring/prometheus/metrics"


def read_config(path):
    """The `ModelServerConfig` to serve a path by, which `Server` describes.

    Raises:
        FileNotFoundError: nothing stands there that could be served.
        ValueError: the file is no such configuration, or breaks a rule of it.
    """
    path, listed = os.path.abspath(path), config_path(path)
    config = ModelServerConfig()
    if os.path.isfile(listed):
        config = parse_config(listed)
    elif version_directories(path):
        _add(config, os.path.basename(path), path)
    elif os.path.isdir(path):
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            if version_directories(entry.path):
                _add(config, entry.name, entry.path)
    if not config.model_config_list.config:
        raise FileNotFoundError(f"{path} holds no model: no {CONFIG} and no <name>/<version>/")
    check_config(config)
    return config


def config_path(path):
    """Where the `models.config` of a directory stands, or would; a file is one itself."""
    path = os.path.abspath(path)
    return os.path.join(path, CONFIG) if os.path.isdir(path) else path


def parse_config(path):
    """The `ModelServerConfig` in a text file.

    A folder may have been moved or copied since its paths were written: a model whose folder lies
    beside the file is that one. Raises `ValueError` where it is none.
    """
    config, folder = read_text(path, ModelServerConfig()), os.path.dirname(os.path.abspath(path))
    for block in config.model_config_list.config:
        here = os.path.join(folder, os.path.basename(block.base_path.rstrip("/")))
        if os.path.isabs(block.base_path) and os.path.isdir(here):
            block.base_path = here
    return config


def check_config(config, served=None):
    """Raises `ValueError` where a `ModelServerConfig` breaks a rule.

    Args:
        config: the message.
        served: name -> `ModelConfig` of the models that are served until now, or None.
    """
    blocks = config.model_config_list.config
    names = [block.name for block in blocks]
    for block in blocks:
        if names.count(block.name) > 1:
            raise ValueError(f"Illegal to list model {block.name} multiple times in config list")
        if not os.path.isabs(block.base_path) or "\0" in block.base_path:
            raise ValueError(
                f"Expected model {block.name} to have an absolute path or URI; "
                f"got base_path()={block.base_path}"
            )
    for block in blocks:
        platform = _platform(block)
        before = _platform(served[block.name]) if served and block.name in served else platform
        if platform != before:
            raise ValueError(
                f"Illegal to change a model's platform. For model {block.name} platform was "
                f"{before} and new platform requested is {platform}"
            )
        if platform != _PLATFORM:
            raise ValueError(
                f"model {block.name}: model_platform must be {_PLATFORM}, got {platform!r}"
            )


def _platform(block):
    fields = "ModelServerConfig::model_type (deprecated) {} ModelServerConfig::model_platform"
    if block.model_type and block.model_platform:
        raise ValueError(f"Illegal setting both {fields.format('and')}.")
    if block.model_type:
        return _PLATFORM if block.model_type == ModelType.TENSORFLOW else "other"
    if not block.model_platform:
        text = f"Illegal setting neither {fields.format('nor')}"
        raise ValueError(f"{text}, model name is {block.name}")
    return block.model_platform


def versions_to_serve(block):
    """Number -> directory of the versions that are there and that a `ModelConfig` asks for."""
    found = version_directories(block.base_path)
    return {n: found[n] for n in chosen_versions(block.model_version_policy, found)}


def chosen_versions(policy, numbers):
    """The set of those of the version numbers that a policy chooses, the latest one by default."""
    if policy.HasField("specific"):
        return set(policy.specific.versions) & set(numbers)
    if policy.HasField("all"):
        return set(numbers)
    return set(sorted(numbers)[-(policy.latest.num_versions or 1) :])


def version_directories(base):
    """Number -> path of a model's versions; folders whose names are no numbers are none."""
    if not os.path.isdir(base):
        return {}
    return {
        int(entry.name): entry.path
        for entry in os.scandir(base)
        # Where a link leads in a circle, entry.is_dir() raises.
        if re.fullmatch("[0-9]{1,18}", entry.name) and os.path.isdir(entry.path)
    }


def _add(config, name, base):
    config.model_config_list.config.add(name=name, base_path=base, model_platform="tensorflow")
