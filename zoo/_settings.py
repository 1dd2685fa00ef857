"""The settings of an entry, and what `--set` makes of them."""

import dataclasses


def _settings(entry):
    """All settings of an entry with their values: `{"model", "recipe", "task"}`."""
    from ..trainers import Recipe
    from . import task_of

    return {
        "model": dict(entry.config),
        "recipe": dataclasses.asdict(Recipe.parse(entry.train)),
        "task": dataclasses.asdict(task_of(entry)),
    }


def _choose(entry, pairs):
    """The settings of an entry after `--set`, each pair `key=value` or `group.key=value`.

    Raises:
        ValueError: for a key that is unknown, or that stands in two groups, and for a wrong value.
    """
    from ..trainers import parse_as

    groups = _settings(entry)
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
