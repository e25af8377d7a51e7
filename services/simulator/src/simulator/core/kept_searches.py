"""What the last searches found, so that the second page of a large one does not search anew.

A search is known by its resource, parameters and the second it began in, and counts only while the chart is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

SEARCHES_KEPT_MAX: Final = 8
RESULTS_KEPT_MAX: Final = 100_000

Found = list[Callable[[], dict[str, Any]]]
_Key = tuple[str, tuple[tuple[str, tuple[str, ...]], ...], int]


class KeptSearches:
    """Results by search; the oldest is given up over either bound."""

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[int, Found]] = {}

    def take(
        self,
        resource: str,
        parameters: Mapping[str, Sequence[str]],
        begun_at: int,
        version: int,
        search: Callable[[], Found],
    ) -> Found:
        """The result of a search of that version of the chart, kept or made now."""
        key = (resource, tuple(sorted((name, tuple(values)) for name, values in parameters.items())), begun_at)
        kept = self._found.get(key)
        if kept is not None and kept[0] == version:
            return kept[1]
        found = search()
        self._found.pop(key, None)
        if len(found) <= RESULTS_KEPT_MAX:
            self._found[key] = (version, found)
        while len(self._found) > SEARCHES_KEPT_MAX or self._results() > RESULTS_KEPT_MAX:
            del self._found[next(iter(self._found))]
        return found

    def _results(self) -> int:
        return sum(len(found) for _, found in self._found.values())
