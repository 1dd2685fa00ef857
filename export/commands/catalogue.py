"""Commands that tell what there is: entries and data sets."""

from ...zoo._settings import _settings
from ._command import _print


def _list(arguments):
    """Lists all entries: name, size of the weights, paper."""
    from ... import zoo

    for name in zoo.list():
        entry = zoo.info(name)
        size = f"{entry.bytes / 1e3:.0f} kB" if entry.bytes else "untrained"
        print(f"{name:28} {size:>10}  {entry.paper.title} ({entry.paper.year})")


def _info(arguments):
    """Prints everything that is known of an entry: paper, settings, metrics, card."""
    from ... import zoo

    entry = zoo.info(arguments.name)
    paper = entry.paper
    print(f"{entry.name}\n{paper.title}. {paper.authors}, {paper.year}, arXiv:{paper.arxiv}")
    metrics = {k: v for k, v in entry.metrics.items() if not isinstance(v, (dict, list))}
    for title, group in {**_settings(entry), "metrics": metrics}.items():
        print(f"\n{title}")
        _print(group)
    if entry.card:
        print(f"\n{entry.card}")


def _data_list(arguments):
    """Lists all data sets: name, and the file where it is there."""
    from ...trainers import data

    for name in data.list():
        found = data.dataset(name)
        print(f"{name:20} {found.path() if found.available() else 'not fetched'}")


def _data_fetch(arguments):
    """Fetches a data set into the cache."""
    from ...trainers import data

    print(data.fetch(arguments.name))
