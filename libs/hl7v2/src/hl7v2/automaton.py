"""The structure of a message as an automaton: built once per structure, walked once per message.

A structure is a regular expression over segment names (HL7 v2.5.1 §2.12): segments and groups with a cardinality, in
order, or a choice of one. Each place of a segment in it is a position; which positions may follow which is worked out
when the automaton is built (Glushkov), sets of positions become states when a message first reaches them. A state is
a dictionary from segment name to state, so that walking a message is a chain of look-ups. Z segments, and those that
a profile allows anywhere, leave a state as it is.

Where a message does not fit, `repair` looks for the fewest segments to take out or put in so that it would, and says
what that means: a segment missing, repeated, or out of its place. One mistake is one fault: what is taken out in one
place and put in at another was out of its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from hl7v2.standard import Item

ANY_SEGMENT: Final = b"*"
REPAIR_SEGMENTS_MAX: Final = 2_000
"""Of a longer message only the first misfit is told."""
REPAIR_EDITS_MAX: Final = 24
"""After so many misfits the rest of a message is not looked at."""
_LOOK_BACK_SEGMENTS: Final = 8
"""How far before the place where a message stops to fit its mistake is looked for."""
_TRAILS_MAX: Final = 4
_STATE_NAMES_MAX: Final = 300
"""Names that only messages know are kept too (Z segments come again and again), but not without limit."""
_START: Final = 0


class Fault(NamedTuple):
    """A misfit. `kind`: missing, repeated, misplaced, unknown (not in the structure), unchecked (nothing said of what
    follows). `place` is the segment's index, or that of the segment which a missing one should stand before."""

    kind: str
    place: int
    name: bytes


@dataclass(slots=True)
class _Part:
    """Positions that a piece of a structure may begin and end with, and whether it may be absent."""

    first: set[int]
    last: set[int]
    optional: bool


class _Trail(NamedTuple):
    """Edits that led to a node, the latest first. `position` is 0 for a segment taken out, else what was put in."""

    place: int
    position: int
    before: _Trail | None


class State(dict[bytes, "State"]):
    """A set of positions. Looking up a name gives the next state; `NOWHERE` where the name does not fit."""

    __slots__ = ("accepting", "automaton", "positions")

    def __init__(self, automaton: Automaton | None, positions: tuple[int, ...]) -> None:
        super().__init__()
        self.automaton = automaton
        self.positions = positions
        self.accepting = automaton is not None and any(position in automaton.ends for position in positions)

    def __missing__(self, name: bytes) -> State:
        automaton = self.automaton
        if automaton is None:
            return self
        following = automaton.following(self.positions, name)
        elsewhere = self if automaton.stands_anywhere(name) else NOWHERE
        state = automaton.state(following) if following else elsewhere
        if len(self) < _STATE_NAMES_MAX or name in automaton.names:
            self[name] = state
        return state


NOWHERE: Final = State(None, ())


class Automaton:
    """One structure. `anywhere` are names that may stand in any place, besides those that begin with Z."""

    def __init__(self, items: Iterable[Item], anywhere: Iterable[str] = ()) -> None:
        self.anywhere = frozenset(name.encode() for name in anywhere)
        self._labels: list[bytes] = [b""]
        self._repeats: list[bool] = [False]
        self._follow: list[set[int]] = [set()]
        self.anchors: dict[bytes, set[bytes]] = {}
        """Segment → those that begin a group in which its numbering starts again."""
        root = self._sequence(tuple(items), ())
        self._follow[_START] = root.first
        self.ends = root.last | ({_START} if root.optional else set())
        self.names = frozenset(self._labels[1:]) - {ANY_SEGMENT}
        self._states: dict[tuple[int, ...], State] = {}
        self.start = self.state((_START,))

    # ---- Building

    def _sequence(self, items: tuple[Item, ...], groups: tuple[_Group, ...]) -> _Part:
        whole = _Part(set(), set(), True)
        for item in items:
            part = self._item(item, groups)
            for position in whole.last:
                self._follow[position] |= part.first
            whole.first |= part.first if whole.optional else set()
            whole.last = part.last | (whole.last if part.optional else set())
            whole.optional = whole.optional and part.optional
        return whole

    def _item(self, item: Item, groups: tuple[_Group, ...]) -> _Part:
        repeats = item.maximum != 1
        if item.items:
            group = _Group(repeats)
            inside = (*groups, group)
            part = self._choice(item.items, inside) if item.is_choice else self._sequence(item.items, inside)
            first = {self._labels[position] for position in part.first}
            for anchors in group.numbered:
                anchors.update(first)
        else:
            part = self._position(item.name.encode(), repeats, groups)
        if repeats:
            for position in part.last:
                self._follow[position] |= part.first
        return _Part(part.first, part.last, part.optional or item.minimum == 0)

    def _choice(self, items: tuple[Item, ...], groups: tuple[_Group, ...]) -> _Part:
        whole = _Part(set(), set(), False)
        for item in items:
            part = self._item(item, groups)
            whole.first |= part.first
            whole.last |= part.last
            whole.optional = whole.optional or part.optional
        return whole

    def _position(self, name: bytes, repeats: bool, groups: tuple[_Group, ...]) -> _Part:
        position = len(self._labels)
        self._labels.append(name)
        self._follow.append(set())
        self._repeats.append(repeats or any(group.repeats for group in groups))
        anchors = self.anchors.setdefault(name, set())
        # The numbering counts what repeats: the segment itself, or the group that it stands in once.
        depth = len(groups)
        if not repeats:
            repeating = [place for place, group in enumerate(groups) if group.repeats]
            depth = repeating[-1] if repeating else 0
        for group in groups[:depth]:
            group.numbered.append(anchors)
        return _Part({position}, {position}, False)

    # ---- Walking

    def state(self, positions: tuple[int, ...]) -> State:
        """The state of a set of positions."""
        found = self._states.get(positions)
        if found is None:
            found = self._states[positions] = State(self, positions)
        return found

    def following(self, positions: Iterable[int], name: bytes) -> tuple[int, ...]:
        """The positions of a name (or of any segment) that may follow others, in the order of the structure."""
        labels = self._labels
        found = {
            after
            for position in positions
            for after in self._follow[position]
            if labels[after] == name or labels[after] == ANY_SEGMENT
        }
        return tuple(sorted(found))

    def stands_anywhere(self, name: bytes) -> bool:
        """Whether a segment of this name may stand in any place."""
        return name.startswith(b"Z") or name in self.anywhere

    def expected(self, positions: Iterable[int]) -> list[bytes]:
        """The names that may follow, in the order of the structure."""
        after = sorted({after for position in positions for after in self._follow[position]})
        return list(dict.fromkeys(self._labels[position] for position in after))

    # ---- Repairing

    def repair(self, names: Sequence[bytes]) -> list[Fault]:
        """What is wrong with a message that does not fit, in the message's order; empty when it fits."""
        if len(names) > REPAIR_SEGMENTS_MAX:
            index = next(self._misfits(names))
            return [Fault(self._kind_of_extra(names, index), index, names[index])] if index < len(names) else []
        return self._faults(names, self._search(names))

    def _misfits(self, names: Sequence[bytes]) -> Iterator[int]:
        state = self.start
        for index, name in enumerate(names):
            state = state[name]
            if state is NOWHERE:
                yield index
        yield len(names)

    def _search(self, names: Sequence[bytes]) -> _Trail | None:
        """The edits of the best repair, found level by level: a level holds what one more edit leads to."""
        visited: dict[tuple[int, int], list[_Trail | None]] = {}
        level: list[tuple[int, int, _Trail | None]] = [(0, _START, None)]
        best: _Trail | None = None
        for edits in range(REPAIR_EDITS_MAX + 1):
            reached = self._closure(names, level, visited)
            furthest = max(index for index, _ in reached)
            done = [trail for node in reached if self._is_end(names, node) for trail in visited[node]]
            if done:
                return min(done, key=lambda trail: self._badness(names, trail))
            best = visited[max(reached)][0]
            level = []
            for node in reached:
                if node[0] >= furthest - _LOOK_BACK_SEGMENTS:
                    level += self._edits(names, node, visited[node])
            if edits == REPAIR_EDITS_MAX or not level:
                return _Trail(furthest, -1, best)
        return best

    def _closure(
        self,
        names: Sequence[bytes],
        level: list[tuple[int, int, _Trail | None]],
        visited: dict[tuple[int, int], list[_Trail | None]],
    ) -> list[tuple[int, int]]:
        """All nodes (segments read, position) that the level leads to without an edit."""
        reached: dict[tuple[int, int], None] = {}
        waiting = list(reversed(level))
        while waiting:
            index, position, trail = waiting.pop()
            node = (index, position)
            if node in visited and (node not in reached or len(visited[node]) >= _TRAILS_MAX):
                continue  # an earlier level was here with fewer edits
            visited.setdefault(node, []).append(trail)
            reached[node] = None
            if index < len(names):
                after = self.following((position,), names[index])
                if after:
                    waiting += [(index + 1, one, trail) for one in reversed(after)]
                elif self.stands_anywhere(names[index]):
                    waiting.append((index + 1, position, trail))
        return list(reached)

    def _edits(
        self, names: Sequence[bytes], node: tuple[int, int], trails: list[_Trail | None]
    ) -> Iterator[tuple[int, int, _Trail | None]]:
        index, position = node
        for trail in trails:
            if index < len(names):
                yield index + 1, position, _Trail(index, 0, trail)
            for after in sorted(self._follow[position]):
                yield index, after, _Trail(index, after, trail)

    def _is_end(self, names: Sequence[bytes], node: tuple[int, int]) -> bool:
        return node[0] == len(names) and node[1] in self.ends

    def _badness(self, names: Sequence[bytes], trail: _Trail | None) -> tuple[int, int]:
        """How much a repair has to explain: its faults first, then how unlikely they are."""
        faults = self._faults(names, trail)
        likely = {"repeated": 0, "missing": 1}
        return len(faults), sum(likely.get(fault.kind, 2) for fault in faults)

    def _faults(self, names: Sequence[bytes], trail: _Trail | None) -> list[Fault]:
        taken: list[int] = []
        put: list[tuple[int, bytes]] = []
        faults: list[Fault] = []
        while trail is not None:
            if trail.position < 0:
                faults.append(Fault("unchecked", min(trail.place, len(names) - 1), b""))
            elif trail.position:
                put.append((trail.place, self._labels[trail.position]))
            else:
                taken.append(trail.place)
            trail = trail.before
        for index, name in reversed(put):
            moved = next((one for one in reversed(taken) if names[one] == name), None)
            if moved is None:
                faults.append(Fault("missing", index, name))
            else:
                taken.remove(moved)
                faults.append(Fault("misplaced", moved, name))
        faults += [Fault(self._kind_of_extra(names, index), index, names[index]) for index in taken]
        return sorted(faults, key=lambda fault: fault.place)

    def _kind_of_extra(self, names: Sequence[bytes], index: int) -> str:
        name = names[index]
        if name not in self.names:
            return "unknown"
        once = not any(self._repeats[place] for place, label in enumerate(self._labels) if label == name)
        if (index and names[index - 1] == name) or (once and name in names[:index]):
            return "repeated"
        return "misplaced"


class _Group:
    """A group while the automaton is built: whether it repeats, and the anchors of what is numbered within it."""

    __slots__ = ("numbered", "repeats")

    def __init__(self, repeats: bool) -> None:
        self.repeats = repeats
        self.numbered: list[set[bytes]] = []
