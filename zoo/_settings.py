"""The settings of an entry: what they are, what `--set` makes of them, and how that is written.

Settings come in three groups, `{"model": {...}, "recipe": {...}, "task": {...}}`.
"""

import dataclasses
import inspect
import json

from ..trainers import Recipe, parse_as
from ._registry import task_of


def settings_of(entry, learning=None):
    """All settings of an entry with their values.

    Another way of learning than its own has settings of its own, and the entry's as far as it has
    them. Raises `ValueError` where there is no such way.
    """
    way = {"learning": learning} if learning else entry.train
    known = Recipe.defaults(way)
    train = {key: value for key, value in entry.train.items() if key in known or not learning}
    return {
        "model": dict(entry.config),
        "recipe": dataclasses.asdict(Recipe.parse({**train, **way})),
        "task": dataclasses.asdict(task_of(entry)),
    }


def model_defaults(entry):
    """The settings of the model that have a default in the signature of `entry.build`."""
    parameters = inspect.signature(entry.build).parameters
    defaults = {key: parameters[key].default for key in entry.config if key in parameters}
    return {key: value for key, value in defaults.items() if value is not inspect.Parameter.empty}


def choose(entry, pairs):
    """The settings of an entry after `--set`, each pair `key=value` or `group.key=value`.

    Raises:
        ValueError: for a key that is unknown, or that stands in two groups, and for a wrong value.
    """
    asked = dict(pair.partition("=")[::2] for pair in pairs)
    groups = settings_of(entry, asked.get("learning") or asked.get("recipe.learning"))
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"--set wants KEY=VALUE, got {pair!r}")
        full = [f"{g}.{k}" for g, some in groups.items() for k in some if key in (k, f"{g}.{k}")]
        if len(full) > 1:
            raise ValueError(f"{key!r} is ambiguous; write one of {', '.join(full)}")
        if not full:
            known = [
                f"  {group}: " + ", ".join(f"{k}={v}" for k, v in some.items())
                for group, some in groups.items()
            ]
            raise ValueError("\n".join([f"{entry.name} has no setting {key!r}; it has", *known]))
        group, _, key = full[0].partition(".")
        groups[group][key] = parse_as(key, groups[group][key], value)
    return groups


def changes(entry, settings):
    """The pairs of which `choose` makes these settings: what differs from those of the entry.

    Args:
        entry: `Entry`.
        settings: groups of settings, perhaps read from JSON.

    Raises:
        ValueError: for a setting that the entry does not have.
    """
    own = settings_of(entry)["recipe"]["learning"]
    registered = settings_of(entry, settings.get("recipe", {}).get("learning"))
    registered["recipe"]["learning"] = own
    keys = [key for some in registered.values() for key in some]
    pairs = []
    for group, some in settings.items():
        for key, value in some.items():
            if key not in registered[group]:
                raise ValueError(f"{entry.name} has no setting {group}.{key} now")
            if _plain(value) != _plain(registered[group][key]):
                name = key if keys.count(key) == 1 else f"{group}.{key}"
                pairs.append(f"{name}={_written(value)}")
    return pairs


def _plain(value):
    """As JSON has it, where a tuple is a list."""
    return json.loads(json.dumps(value))


def _written(value):
    return str(value) if isinstance(value, (str, int, float)) else json.dumps(value)
