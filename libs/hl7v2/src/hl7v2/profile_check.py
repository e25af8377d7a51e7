"""Every mistake of a site profile at once, each with its place; `compile_profile` stops at the first.

Besides what cannot be meant, this tells what would silently do nothing: fields, tables, structures and segments that
no version of the standard has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from hl7v2.profile import ProfileError, compile_profile
from hl7v2.standard import PRIMITIVES, VERSIONS, standard

_SECTIONS: Final = ("severity", "fields", "tables", "structures", "events", "segments")
_SIMPLE: Final = frozenset({*PRIMITIVES, "varies"})
_KEPT_MAX: Final = 4_096


class ProfileMistake(NamedTuple):
    """Where (the keys from the top, as they stand) and what is wrong, without the place."""

    place: tuple[str, ...]
    detail: str


def profile_mistakes(given: object) -> list[ProfileMistake]:
    """What is wrong with a profile, in its order; empty exactly when `compile_profile` takes it and all has effect."""
    if not isinstance(given, Mapping):
        return [ProfileMistake((), f"expected a mapping, found {type(given).__name__}")]
    found: list[ProfileMistake] = []
    versions = (given["version"],) if given.get("version") in VERSIONS else VERSIONS
    for key, value in given.items():
        if key not in _SECTIONS or not isinstance(value, Mapping):
            found += _tried({key: value}, (str(key),))
            continue
        for name, change in value.items():
            found += _entry(str(key), name, change, versions)
    return found


def _entry(section: str, name: Any, change: Any, versions: tuple[str, ...]) -> Iterator[ProfileMistake]:
    place = (section, str(name))
    bare = {} if isinstance(change, Mapping) else change
    wrong = _tried({section: {name: bare}}, place)
    yield from wrong
    if wrong:
        return
    if isinstance(change, Mapping):
        for key, value in change.items():
            if section == "segments" and isinstance(value, Mapping):
                yield from _field_of_a_segment(name, key, value)
            else:
                yield from _tried({section: {name: {key: value}}}, (*place, str(key)))
    unknown = _UNKNOWN.get(section)
    if unknown is not None:
        for below, detail in unknown(name, change, versions):
            yield ProfileMistake((*place, *below), detail)


def _field_of_a_segment(name: Any, number: Any, change: Mapping[Any, Any]) -> Iterator[ProfileMistake]:
    place = ("segments", str(name), str(number))
    wrong = _tried({"segments": {name: {number: {}}}}, place)
    yield from wrong
    if wrong:
        return
    for key, value in change.items():
        yield from _tried({"segments": {name: {number: {key: value}}}}, (*place, str(key)))
    kind = change.get("type")
    if isinstance(kind, str) and kind not in _SIMPLE and not any(standard(one).type(kind) for one in VERSIONS):
        yield ProfileMistake((*place, "type"), f"no version of HL7 v2 has a data type {kind[:20]!r}")


def _tried(given: dict[str, Any], place: tuple[str, ...]) -> list[ProfileMistake]:
    """What `compile_profile` says of a part of a profile."""
    try:
        compile_profile(given)
    except ProfileError as error:
        return [ProfileMistake(place, error.detail)]
    return []


_Unknown = Iterator[tuple[tuple[str, ...], str]]


def _no_field(name: str, _: Any, versions: tuple[str, ...]) -> _Unknown:
    segment, _, number = name.partition("-")
    if not segment.startswith("Z") and not any(_fields(version, segment) >= int(number) for version in versions):
        yield (), f"{_named(versions)} field {name}"


def _no_table(name: str, _: Any, versions: tuple[str, ...]) -> _Unknown:
    if not any(standard(version).table(name) is not None for version in versions):
        yield (), f"{_named(versions)} table {name}"


def _no_structure(name: str, change: Any, versions: tuple[str, ...]) -> _Unknown:
    if name != "*" and not any(standard(version).structure(name) is not None for version in versions):
        yield (), f"{_named(versions)} message structure {name}"
    if not isinstance(change, Mapping):
        return
    for key, segments in change.items():
        for segment in segments if isinstance(segments, (list, tuple)) else ():
            known = isinstance(segment, str) and (
                segment.startswith("Z") or any(standard(version).segment(segment) for version in versions)
            )
            if isinstance(segment, str) and len(segment) == 3 and not known:
                yield (str(key),), f"{_named(versions)} segment {segment!r}"
    both = frozenset(_texts(change, "optional")) & frozenset(_texts(change, "required"))
    for segment in sorted(both):
        yield ("required",), f"{segment} cannot be optional and required"


def _no_event(_: str, structure: Any, versions: tuple[str, ...]) -> _Unknown:
    if structure == "*" or not any(standard(version).structure(str(structure)) is not None for version in versions):
        yield (), f"{_named(versions)} message structure {str(structure)[:20]!r}"


_UNKNOWN: Final[Mapping[str, Callable[[str, Any, tuple[str, ...]], _Unknown]]] = {
    "fields": _no_field,
    "tables": _no_table,
    "structures": _no_structure,
    "events": _no_event,
}


def _texts(change: Mapping[Any, Any], key: str) -> list[str]:
    found = change.get(key)
    return [one for one in found if isinstance(one, str)] if isinstance(found, (list, tuple)) else []


@lru_cache(maxsize=_KEPT_MAX)
def _fields(version: str, segment: str) -> int:
    found = standard(version).segment(segment)
    return 0 if found is None else len(found.fields)


def _named(versions: tuple[str, ...]) -> str:
    return f"HL7 v{versions[0]} has no" if len(versions) == 1 else "no version of HL7 v2 has a"
