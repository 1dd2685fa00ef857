"""Commands that plan what training will take."""

import dataclasses
import json

from ._command import AS_JSON, argument, command, import_backend, print_values


def _number(text):
    """A whole number, which may be written as 2e8."""
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)


@command(
    "plan",
    argument("--length", type=_number, required=True, help="steps of a sequence"),
    argument(
        "--hidden_bytes",
        type=_number,
        required=True,
        help="bytes that a step hands to the next one, for the whole batch",
    ),
    argument(
        "--internal_bytes",
        type=_number,
        help="bytes that differentiating a step needs, for the whole batch",
    ),
    argument("--alpha", type=float, help="the same in hidden states, 5 without it"),
    argument("--budget", type=_number, help="bytes that training may use to remember steps"),
    argument(
        "--slowdown",
        type=float,
        help="instead of a budget: how much more time training may take, 0.33 for a third more",
    ),
    argument("--backward_cost", type=float, default=2.0, help="of a step, in forward operations"),
    argument(
        "--figure",
        metavar="FILE",
        help="where to draw time and forward operations against memory, a PNG file",
    ),
    argument("--moves", action="store_true", help="print every move, too"),
    AS_JSON,
    place=24,
    needs="names",
)
def plan_training(arguments):
    """Plans backpropagation through time within a budget of memory, as layers with a memory_budget
    carry it out (Gruslys et al., 2016)."""
    if arguments.figure:
        import_backend("keras")  # matplotlib asks arrays whether they are of a backend
    from ...layers.memory_budget import (
        hidden_state_forwards,
        internal_state_forwards,
        least_budget,
        plan_memory,
    )

    if (arguments.budget is None) == (arguments.slowdown is None):
        raise ValueError("plan takes either --budget or --slowdown")
    if arguments.internal_bytes is not None and arguments.alpha is not None:
        raise ValueError("plan takes --internal_bytes or --alpha, not both")
    hidden, internal = arguments.hidden_bytes, arguments.internal_bytes
    if internal is None:
        internal = int(hidden * (5 if arguments.alpha is None else arguments.alpha))
    sizes, cost = (arguments.length, hidden, internal), arguments.backward_cost
    if arguments.slowdown is None:
        plan = plan_memory(*sizes, arguments.budget, cost)
    else:
        plan = least_budget(*sizes, arguments.slowdown, cost)
    told = {
        "strategy": plan.strategy,
        **dataclasses.asdict(plan),
        "forwards_per_step": plan.forwards_per_step,
        "time_ratio": plan.time_ratio,
    }
    budget = plan.bytes if arguments.budget is None else arguments.budget
    # Forward operations a step where single steps are planned, and the one that is being
    # differentiated takes nothing, as the paper counts.
    for name, forwards, size in (
        ("hidden", hidden_state_forwards, hidden),
        ("internal", internal_state_forwards, internal),
    ):
        slots = min(budget // size, plan.length)
        told[f"by_{name}_states"] = forwards(plan.length, slots) / plan.length if slots else None
    if arguments.moves:
        told["moves"] = list(plan.moves())
    if arguments.figure:
        from ...trainers.figures.budget import drawn_plan

        drawn_plan(plan, hidden, internal).savefig(arguments.figure, format="png")
    if arguments.json:
        print(json.dumps(told, indent=2))
        return
    moves = told.pop("moves", [])
    print_values(told)
    for move in moves:
        print("  {:8} {:>8} {:>6}".format(*move))
