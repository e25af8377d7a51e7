"""What a value breaks, by name; the value itself is never part of it."""

from __future__ import annotations


class RuleError(ValueError):
    """A value does not fit; the only argument is the rule's name."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule
