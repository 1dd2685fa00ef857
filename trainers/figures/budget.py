"""What backpropagation through time takes within a budget of memory."""

import numpy as np

from ...layers.memory_budget import plan_memory
from ._panels import COLOURS, GREY, subplots


def time_against_memory(plan, hidden_bytes, internal_bytes):
    """Predicted time against memory for the length of a plan, which is marked.

    Beside it stand plain backpropagation and the fixed scheme of Chen et al. (2016), which keeps
    the hidden state in front of each of `sqrt(length)` segments.

    Args:
        plan: `MemoryPlan`.
        hidden_bytes, internal_bytes: of a step, as `plan_memory` takes them.
    """
    figure, (panel,) = subplots(size=(7, 4))
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
    return figure
