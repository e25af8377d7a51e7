"""What a transform is: a function by name, its parameters as rows, and what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from common.models.identifier_systems import IdentifierSystem
from sync.core.mapping.value_map import ValueMap

Apply = Callable[[Any], Any]
"""A value that is there → another one, None for none. Raises RuleError naming the rule that it breaks."""
_TYPES: Final[Mapping[str, type | tuple[type, ...]]] = {
    "text": str, "integer": int, "boolean": bool, "texts": list, "object": dict, "any": object,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What transforms know besides their value: the integration's identifier systems, HL7 times, value maps by name."""

    systems: Sequence[IdentifierSystem] = ()
    read_time: Callable[[str], datetime | None] | None = None
    value_maps: Mapping[str, ValueMap] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a transform; without a default it must be given."""

    name: str
    type: str
    default: Any = None
    required: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Transform:
    """`takes` and `gives` are types (text, texts, boolean, integer, date, instant, code, object, any).

    `make` raises ValueError for parameters that cannot work. What takes one value is applied to each of a list.
    """

    name: str
    takes: str
    gives: str
    make: Callable[[Mapping[str, Any], Surroundings], Apply]
    parameters: tuple[Parameter, ...] = ()

    def apply(self, given: Mapping[str, Any], surroundings: Surroundings) -> Apply:
        """The function with its parameters bound; raises ValueError naming the parameter that is wrong."""
        known = {parameter.name: parameter for parameter in self.parameters}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"{self.name} has no parameter {unknown[0]}")
        values = {}
        for name, parameter in known.items():
            value = given.get(name, parameter.default)
            if value is None and parameter.required:
                raise ValueError(f"{self.name} needs {name}")
            if value is not None and not isinstance(value, _TYPES[parameter.type]):
                raise ValueError(f"{name} is {parameter.type}")
            if parameter.choices and value not in parameter.choices:
                raise ValueError(f"{name} is one of {', '.join(parameter.choices)}")
            values[name] = value
        return self.make(values, surroundings)
