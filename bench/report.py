"""One line per figure."""

from __future__ import annotations


def figure(
    name: str, value: float, unit: str, how: str, *, goal: float | None = None, at_least: float | None = None
) -> dict[str, object]:
    """`goal` is an upper bound, `at_least` a lower one."""
    met = None
    if goal is not None:
        met = value <= goal
    elif at_least is not None:
        met = value >= at_least
    bound = goal if goal is not None else at_least
    return {"figure": name, "value": round(value, 3), "unit": unit, "goal": bound, "met": met, "how": how}
