"""Commands that tell what there is: entries and data sets."""

from ._command import NAME, argument, command, group, print_values

group("data", "Data sets: list, fetch", place=60)


@command("list", place=10, needs="keras")
def list_entries(arguments):
    """Lists all entries: name, size of the weights, paper."""
    from ... import zoo

    for name in zoo.list():
        entry = zoo.info(name)
        size = f"{entry.bytes / 1e3:.0f} kB" if entry.bytes else "untrained"
        print(f"{name:28} {size:>10}  {entry.paper.title} ({entry.paper.year})")


@command("info", NAME, place=11, needs="keras")
def info(arguments):
    """Prints everything that is known of an entry: paper, settings, metrics, card."""
    from ... import zoo
    from ...zoo._settings import settings_of

    entry = zoo.info(arguments.name)
    paper = entry.paper
    print(f"{entry.name}\n{paper.title}. {paper.authors}, {paper.year}, arXiv:{paper.arxiv}")
    metrics = {k: v for k, v in entry.metrics.items() if not isinstance(v, (dict, list))}
    for title, values in {**settings_of(entry), "metrics": metrics}.items():
        print(f"\n{title}")
        print_values(values)
    if entry.card:
        print(f"\n{entry.card}")


@command("data list", place=61, needs="keras")
def list_data(arguments):
    """Lists all data sets: name, and the file where it is there."""
    from ...trainers import data

    for name in data.list():
        found = data.dataset(name)
        print(f"{name:20} {found.path() if found.available() else 'not fetched'}")


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
