"""What is said of a pretrained entry: its card, and its row in the table of results."""

import re

from ..trainers._files import write_file
from ._registry import info, list_entries, task_of

FACTS = ("seed", "updates", "batch_size", "minutes", "hardware", "backend", "commit")
CAPTIONS = {
    "seeds": "Runs that differ in their seed, and where the updates say so in their length.",
    "settings": "Runs with other settings, which `--set` takes; where there are several seeds, the "
    "mean, the least and the greatest of them.",
    "learning_curves_of_seeds": "For every seed; on validation rows where there are any.",
    "learning_curves_of_settings": "For every row of the table of settings, of its first seed; on "
    "validation rows where there are any.",
}
MARKED = re.compile("(<!-- results:begin -->\n).*?(<!-- results:end -->)", re.DOTALL)


def names_of(entry):
    """What the model and its baseline are called: ("ACT", "without ACT")."""
    mechanism = entry.paper.mechanism
    return mechanism, entry.baseline or f"without {mechanism}"


def both_of(metrics):
    return [metrics, metrics["baseline"]] if "baseline" in metrics else [metrics]


def _tested(ours):
    rows = f"{ours.config['train']['evaluation_rows']:,}"
    if hasattr(ours.task, "examples"):
        return f"{rows} rows of the test split, or all where it has fewer"
    return f"{rows} fresh rows of the test split"


def card_of(ours, told, metrics, histories, figures, megabytes):
    """The card of an entry in markdown.

    Args:
        ours: the run, a `_trained.Run`.
        told: what a card calls the measures of the model, by their names.
        metrics: the content of the entry's `metrics.json`.
        histories: learning curves by the name of the model.
        figures: dict whose keys are the names of the PNG files in `figures/`.
        megabytes: size of the weights.
    """
    entry, paper, both = ours.entry, ours.entry.paper, both_of(metrics)
    heads = ["ours", f"baseline {names_of(entry)[1]}"][: len(both)]
    captions = {**CAPTIONS, **ours.recipe.captions, **ours.task.captions}
    captions |= _seen(ours, told, metrics, histories)
    settings = {**ours.config["config"], **ours.config["task_config"]}
    words = {**ours.task.called, **told}
    results = [
        [spelled(name, words), "", *(shown(name, one.get(name, "")) for one in both)]
        for name in (*ours.task.measured, *told, "parameters")
        if name in metrics
    ]
    results[0][1] = entry.paper_result

    parts = [
        f"# {entry.name}",
        f"{paper.authors}, [{paper.title}](https://arxiv.org/abs/{paper.arxiv}), {paper.year}: "
        f"the task `{entry.task}`.",
        "```python\nimport keras\nfrom ponderzoo import zoo\n\n"
        f'model = keras.saving.load_model(zoo.path("{entry.name}"))\n```',
        f"{metrics['parameters']:,} weights, float32, {megabytes:.2f} MB. Settings: "
        + ", ".join(f"{spelled(k)} {v}" for k, v in settings.items() if v != "")
        + ".",
        "## Results",
        _table(["", "paper", *heads], results),
        f"Ours on {_tested(ours)}.",
    ]
    for name, report in _reports(metrics).items():
        parts += [f"### {spelled(name).capitalize()}", captions.get(name, "")]
        parts += [report_table(report, [m.get(name) for m in both], heads, words)]
    parts += ["## Figures"]
    for name in sorted(figures):
        parts += [f"![{spelled(name)}](figures/{name}.png)", captions.get(name, "")]
    parts += ["## Training", f"```sh\n{metrics['command']}\n```"]
    if len(both) > 1:
        parts += [f"The baseline:\n\n```sh\n{both[1]['command']}\n```"]
    facts = [[spelled(name), *(shown(name, m[name]) for m in both)] for name in FACTS]
    parts += [f"Data: {ours.task.corpus}.", _table(["", *heads], facts)]
    if entry.notes:
        parts += ["## Notes", entry.notes.strip()]
    return "\n\n".join(part for part in parts if part) + "\n"


def _seen(ours, told, metrics, histories):
    """What the figures show, in a sentence each."""
    first, without = ours.task.measured[0], names_of(ours.entry)[1]
    both, measure = both_of(metrics), next(iter(told), None)
    seen = {}
    if "difficulty" in metrics:
        ends = [[m["difficulty"][i] for i in (0, -1)] for m in both]
        errors = [" to ".join(shown(first, point[first]) for point in two) for two in ends]
        low, high = ends[0]
        beside = band = ""
        if measure in low:
            values = " to ".join(shown(measure, point[measure]) for point in (low, high))
            beside = f", the {spelled(measure)} from {values}"
            band = ", the band is a standard deviation"
        seen["difficulty"] = (
            f"From {low['difficulty']} to {high['difficulty']} {ours.task.axis}, the "
            f"{spelled(first)} goes from {errors[0]}"
            + (f" ({without} from {errors[1]})" if len(both) > 1 else "")
            + f"{beside}; {low['rows']:,} rows a point{band}."
        )
    history = next(iter(histories.values()))
    hardest = [row["difficulty"] for row in history if "difficulty" in row]
    what = " and ".join([spelled(first).capitalize(), *([spelled(measure)] if measure else [])])
    seen["learning_curves"] = f"{what} on the training batches" + (
        f", while the curriculum goes from {hardest[0]:g} to {hardest[-1]:g} {ours.task.axis}."
        if hardest
        else "."
    )
    if "sweep" in metrics:
        setting, measure = ours.entry.trade_off
        runs = [row for row in metrics["sweep"] if row[setting] is not None]
        best = min(runs, key=lambda row: row[first])
        lengths = " or ".join(f"{n:,}" for n in sorted({row["updates"] for row in runs}))
        task = ", ".join(f"{spelled(k)} {v}" for k, v in best["task"].items())
        seen["trade_off"] = (
            f"{len(runs)} runs of {lengths} updates{f' on the task with {task}' * bool(task)}: "
            f"the best, {shown(first, best[first])}, has the {spelled(setting)} "
            f"{best[setting]:g} and a {spelled(measure)} of {shown(measure, best[measure])}. A run "
            f"is repeated by `{best['command']}`."
        )
    return seen


def _reports(metrics):
    """The tables of a task among the metrics of an entry."""
    parts = metrics.items()
    return {k: v for k, v in parts if isinstance(v, dict) and k not in ("train", "baseline")}


def _is_plain(report):
    """Whether a table is of numbers, and not of rows."""
    return not any(isinstance(value, dict) for value in report.values())


def _link(entry):
    return f"[{entry.name}](zoo/pretrained/{entry.name}/card.md)"


def report_table(report, all_reports, heads, words=()):
    """A table of plain numbers, ours beside the baseline's; or of ours alone, a row a dict."""
    if _is_plain(report):
        rows = [[spelled(n, words), *(shown(n, one[n]) for one in all_reports)] for n in report]
        return _table(["", *heads], rows)
    columns = list(dict.fromkeys(name for row in report.values() for name in row))
    rows = [[kind, *(shown(n, row.get(n, "")) for n in columns)] for kind, row in report.items()]
    return _table(["", *(spelled(name, words) for name in columns)], rows)


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    cells = [[re.sub(r"([|<])", r"\\\1", str(cell)) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def spelled(name, words=()):
    return dict(words).get(name) or name.replace("_", " ")


def shown(name, value):
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if name.endswith(("error", "error_rate", "at_cap", "share")):
        return f"{100 * value:.3g} %"
    if name.endswith("minutes"):
        return f"{value:.2f}"
    size = abs(value)
    return f"{value:.2g}" if 0 < size < 0.01 else f"{value:.3f}" if size < 1000 else f"{value:,.0f}"


def results_table(names=None):
    """The pretrained entries of these names, or all, and their numbers, a markdown table."""
    rows = []
    for entry in map(info, list_entries() if names is None else names):
        metrics = entry.metrics
        if metrics:
            first, told = task_of(entry).measured[0], entry.trade_off[1:]
            results = [shown(first, one[first]) for one in both_of(metrics)]
            rows.append(
                [
                    _link(entry),
                    entry.task,
                    entry.paper_result,
                    f"{results[0]} {spelled(first)}",
                    *(results[1:] or [""]),
                    ", ".join(f"{metrics[name]:.2f} {spelled(name)}" for name in told),
                    f"{entry.bytes / 1e6:.2f}",
                    shown("minutes", metrics["minutes"]),
                ]
            )
    heads = ["entry", "task", "paper", "ours", "baseline", "measure", "MB", "minutes"]
    return _table(heads, rows)


def side_by_side(names):
    """Pretrained entries of one task and their baselines, a row each, a markdown table.

    Columns are what the task measures, and the numbers of those of its reports that every entry
    has; what is the same for all stands below the table.
    """
    entries = [info(name) for name in names]
    measured, rows = task_of(entries[0]).measured, []
    shared = [_reports(entry.metrics) for entry in entries]
    reports = [
        name
        for name, report in shared[0].items()
        if _is_plain(report) and all(name in one for one in shared)
    ]
    for entry in entries:
        settings = ", ".join(f"{spelled(k)} {v}" for k, v in entry.task_config.items())
        kinds = [_link(entry), f"its baseline, {names_of(entry)[1]}"]
        for kind, one in zip(kinds, both_of(entry.metrics), strict=False):
            numbers = {name: one.get(name, "") for name in measured}
            for report in reports:
                numbers |= {f"{report}: {k}": v for k, v in one.get(report, {}).items()}
            numbers |= {name: one[name] for name in ("parameters", "updates", "cpu_minutes")}
            rows.append((kind, settings, numbers))
    columns = {
        name: [shown(name, numbers.get(name, "")) for *_, numbers in rows] for name in rows[0][-1]
    }
    same = {name: cells[0] for name, cells in columns.items() if len(set(cells)) == 1}
    heads = [name for name in columns if name not in same]
    lines = [
        [kind, settings, *(columns[name][i] for name in heads)]
        for i, (kind, settings, _) in enumerate(rows)
    ]
    table = _table(["", "settings", *map(spelled, heads)], lines)
    told = ", ".join(f"{spelled(name)} {cell}" for name, cell in same.items())
    return f"{table}\n\nThe same for all: {told}." if same else table


def tasks_of_several_papers():
    """Tasks that entries of two papers or more have weights of: name -> names of those entries."""
    found = {}
    for entry in map(info, list_entries()):
        if entry.metrics:
            found.setdefault(entry.task, []).append(entry)
    return {
        task: [entry.name for entry in entries]
        for task, entries in found.items()
        if len({entry.paper for entry in entries}) > 1
    }


def without_weights(names=None):
    """A sentence that names those of these entries, or of all, that nobody has trained; or none."""
    found = [name for name in (names or list_entries()) if not info(name).metrics]
    named = ", ".join(f"`{name}`" for name in found)
    return f"Without weights yet, to be trained by `ponderzoo train NAME`: {named}." * bool(found)


def write_results(path):
    """Puts the results of all entries between the marks of a markdown file, and changes no more.

    Raises `ValueError` where the file has no `<!-- results:begin -->` and `<!-- results:end -->`.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    if not MARKED.search(text):
        raise ValueError(f"{path} has no <!-- results:begin --> and <!-- results:end --> lines")
    results = f"{results_table()}\n\n{without_weights()}\n"
    write_file(path, MARKED.sub(lambda found: f"{found[1]}{results}{found[2]}", text))
