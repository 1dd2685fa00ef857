"""Commands that tell what there is: entries and data sets."""

import dataclasses
import json

from ._command import AS_JSON, NAME, argument, command, group, print_values

group("data", "Data sets: list, fetch", place=60)


@command("list", AS_JSON, place=10, needs="names")
def list_entries(arguments):
    """Lists all entries: name, size of the weights, paper."""
    from ... import zoo

    entries = [zoo.info(name) for name in zoo.list()]
    if arguments.json:
        print(json.dumps([_facts(entry) for entry in entries], indent=2))
        return
    for entry in entries:
        size = f"{entry.bytes / 1e3:.0f} kB" if entry.bytes else "untrained"
        print(f"{entry.name:28} {size:>10}  {entry.paper.title} ({entry.paper.year})")


def _facts(entry):
    """What a list has of an entry: plain types."""
    paper = dataclasses.asdict(entry.paper)
    return {"name": entry.name, "task": entry.task, "bytes": entry.bytes, "paper": paper}


@command("info", NAME, AS_JSON, place=11, needs="names")
def info(arguments):
    """Prints everything that is known of an entry: paper, settings, metrics, card."""
    from ... import zoo
    from ...zoo._settings import settings_of

    entry = zoo.info(arguments.name)
    settings, paper = settings_of(entry), entry.paper
    if arguments.json:
        told = {"settings": settings, "metrics": entry.metrics, "card": entry.card}
        print(json.dumps({**_facts(entry), **told}, indent=2))
        return
    print(f"{entry.name}\n{paper.title}. {paper.authors}, {paper.year}, arXiv:{paper.arxiv}")
    metrics = {k: v for k, v in entry.metrics.items() if not isinstance(v, (dict, list))}
    for title, values in {**settings, "metrics": metrics}.items():
        print(f"\n{title}")
        print_values(values)
    if entry.card:
        print(f"\n{entry.card}")


@command("data list", AS_JSON, place=61, needs="names")
def list_data(arguments):
    """Lists all data sets: name, and the file where it is there."""
    from ...trainers import data

    found = [data.dataset(name) for name in data.list()]
    paths = dict(zip(data.list(), map(_path, found)))
    if arguments.json:
        print(json.dumps([{"name": name, "path": path} for name, path in paths.items()], indent=2))
        return
    for name, path in paths.items():
        print(f"{name:20} {path or 'not fetched'}")


def _path(dataset):
    """Where a data set stands, None where it is not fetched."""
    return str(dataset.path()) if dataset.available() else None


@command(
    "data fetch",
    argument("name", metavar="NAME", help="a data set, as in `ponderzoo data list`"),
    place=62,
    needs="keras",
)
def fetch_data(arguments):
    """Fetches a data set into the cache."""
    from ...trainers import data

    print(data.fetch(arguments.name))
