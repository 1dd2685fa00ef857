"""What backpropagation through time takes within a budget of memory."""

import numpy as np

from ...layers.memory_budget import (
    hidden_state_forwards,
    internal_state_forwards,
    optimal_schedule,
    plan_memory,
)
from ._panels import COLOURS, GREY, subplots

ALPHAS = (2, 5, 10)
LONGEST, MOST_SLOTS = 1000, 60  # that the dynamic programs are solved for, in a second or two


def drawn_plan(plan, hidden_bytes, internal_bytes):
    """Predicted time against memory, and forward operations against slots, for a plan.

    Args:
        plan: `MemoryPlan`.
        hidden_bytes, internal_bytes: of a step, as `plan_memory` takes them.
    """
    figure, (left, right) = subplots(1, 2, size=(13, 4.5))
    time_against_memory(left, plan, hidden_bytes, internal_bytes)
    forwards_against_slots(right, plan.length)
    return figure


def forwards_against_slots(panel, length):
    """What the paper's three strategies take of single steps, at several alpha.

    A slot holds a hidden state; an internal state takes alpha of them.
    """
    length = min(length, LONGEST)
    slots = range(1, MOST_SLOTS + 1)
    hidden = [hidden_state_forwards(length, m) / length for m in slots]
    panel.plot(slots, hidden, color=GREY, label="hidden states")
    for alpha, color in zip(ALPHAS, COLOURS):
        room = range(alpha, MOST_SLOTS + 1)
        internal = [internal_state_forwards(length, m // alpha) / length for m in room]
        panel.plot(room, internal, "--", color=color, label=f"internal, alpha {alpha}")
        mixed = optimal_schedule(length, MOST_SLOTS, "mixed", alpha).forwards[length, 1:] / length
        panel.plot(slots, mixed, color=color, label=f"mixed, alpha {alpha}")
    panel.set(
        xscale="log",
        xlabel="slots, each of which holds a hidden state",
        ylabel="forward operations a step",
        title=f"single steps planned, {length} of them",
        ylim=(0.9, 10),
    )
    panel.legend(frameon=False)


def time_against_memory(panel, plan, hidden_bytes, internal_bytes):
    """Predicted time against memory for the length of a plan, which is marked.

    Beside it stand plain backpropagation and the fixed scheme of Chen et al. (2016), which keeps
    the hidden state in front of each of `sqrt(length)` segments.
    """
    least = hidden_bytes + internal_bytes * -(-plan.length // 256)
    plans = []
    for budget in np.geomspace(min(least, plan.bytes), plan.plain_bytes, 60):
        try:
            plans.append(
                plan_memory(
                    plan.length, hidden_bytes, internal_bytes, int(budget), plan.backward_cost
                )
            )
        except ValueError:
            continue
    share = [100 * one.bytes / plan.plain_bytes for one in plans]
    panel.plot(share, [one.time_ratio for one in plans], color=COLOURS[0], label="by plan")
    mark = {"linestyle": "", "zorder": 3}
    panel.plot([100], [1], marker="s", color=GREY, label="plain", **mark)
    segments = max(int(np.sqrt(plan.length)), 1)
    segment = -(-plan.length // segments)
    kept = segments * hidden_bytes + segment * internal_bytes
    again = (2 * plan.length - segment) / plan.length
    time = (again + plan.backward_cost) / (1 + plan.backward_cost)
    x = 100 * kept / plan.plain_bytes
    panel.plot([x], [time], marker="^", color=COLOURS[2], label="square root", **mark)
    x = 100 * plan.bytes / plan.plain_bytes
    panel.plot([x], [plan.time_ratio], marker="o", color=COLOURS[1], label="this plan", **mark)
    panel.set(
        xscale="log",
        xlabel="memory, % of plain backpropagation",
        ylabel="time, plain backpropagation = 1",
        title=f"{plan.length} steps",
        ylim=(0.9, max(3, 1.1 * plan.time_ratio)),
    )
    panel.legend(frameon=False)
