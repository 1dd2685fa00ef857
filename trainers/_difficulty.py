"""What the `difficulty` argument of a task means."""


def levels(task, difficulty):
    """`(low, high, exact)`: the lowest and the highest level allowed, and whether one is asked for.

    None allows all levels of the task, a pair is a range, an int is exact. Raises `ValueError` for
    levels that the task does not have.
    """
    allowed = task.difficulties
    exact = difficulty is not None and not isinstance(difficulty, (tuple, list))
    if not allowed:
        if difficulty is not None:
            raise ValueError(f"task {task.name} has no levels of difficulty, got {difficulty!r}")
        return None, None, False
    low, high = allowed[0], allowed[-1]
    if difficulty is not None:
        low, high = (difficulty, difficulty) if exact else difficulty
    if not allowed[0] <= low <= high <= allowed[-1]:
        raise ValueError(
            f"task {task.name} has {task.axis} from {allowed[0]} to {allowed[-1]}, "
            f"got {difficulty!r}"
        )
    return low, high, exact
