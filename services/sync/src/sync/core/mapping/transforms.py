"""Transforms of plain values, by name. What a value cannot be made into raises ValueError with the name of the rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo

import phonenumbers

from common.models.clock import offset_text
from sync.core.mapping.rule import RuleError
from sync.core.mapping.transform import Apply, Parameter, Surroundings, Transform

_PATTERN_CHARACTERS_MAX: Final = 100
_MATCHED_CHARACTERS_MAX: Final = 300
_REPETITIONS_MAX: Final = 2
# A quantifier on a group that repeats or branches is what makes a search exponential; back references are no help here.
_UNSAFE: Final = re.compile(r"\)[*+{?]|\(\?(?!:)|\\[0-9]")
Given = Mapping[str, Any]


def _text(function: Callable[[str], Any]) -> Callable[[Given, Surroundings], Apply]:
    """A transform of text without parameters."""

    def apply(value: Any) -> Any:
        if type(value) is not str:
            raise RuleError("text")
        return function(value)

    return lambda _given, _surroundings: apply


def _on_text(make: Callable[[Given], Callable[[str], Any]]) -> Callable[[Given, Surroundings], Apply]:
    """A transform of text with parameters."""

    def made(given: Given, _: Surroundings) -> Apply:
        function = make(given)

        def apply(value: Any) -> Any:
            if type(value) is not str:
                raise RuleError("text")
            return function(value)

        return apply

    return made


def _zone(name: str | None) -> ZoneInfo | None:
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("zone is an IANA name, e.g. America/Chicago") from error


def _formats(given: Given) -> list[str]:
    formats = given["formats"]
    if not formats or not all(isinstance(each, str) and "%" in each for each in formats):
        raise ValueError("formats is a list of texts like %m/%d/%Y")
    return list(formats)


def _parse(text: str, formats: list[str], rule: str) -> datetime:
    for each in formats:
        try:
            return datetime.strptime(text.strip(), each)  # noqa: DTZ007 - its zone is put on by the caller
        except ValueError:
            continue
    raise RuleError(rule)


def _date(given: Given) -> Callable[[str], Any]:
    formats = _formats(given)
    return lambda text: _parse(text, formats, "date").date().isoformat()


def _date_time(given: Given) -> Callable[[str], Any]:
    formats, zone = _formats(given), _zone(given["zone"])

    def read(text: str) -> str:
        try:
            local = datetime.fromisoformat(text.strip()) if formats == ["%iso"] else _parse(text, formats, "date-time")
        except ValueError as error:
            raise RuleError("date-time") from error
        if local.tzinfo is not None:
            return local.isoformat()
        if zone is None:
            raise RuleError("date-time.zone")
        aware = local.replace(tzinfo=zone)
        # A local time that a clock change skips is no time: told, not moved.
        if aware.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
            raise RuleError("date-time.skipped")
        return aware.isoformat()

    return read


def _instant_offset(text: str) -> str | None:
    """The offset in which an instant was written."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise RuleError("instant") from error
    return offset_text(instant) if instant.tzinfo is not None else None


def _full_instant(text: str) -> str | None:
    """None for a mere date: then there is no instant to keep."""
    try:
        return None if datetime.fromisoformat(text).tzinfo is None else text
    except ValueError:
        return text  # for the target to refuse


def _phone(given: Given) -> Callable[[str], Any]:
    region, shape = given["region"], given["format"]
    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("region is an ISO 3166 code, e.g. US")
    number_format = {
        "e164": phonenumbers.PhoneNumberFormat.E164,
        "international": phonenumbers.PhoneNumberFormat.INTERNATIONAL,
        "national": phonenumbers.PhoneNumberFormat.NATIONAL,
    }[shape]

    def read(text: str) -> str:
        try:
            number = phonenumbers.parse(text[:100], region)
        except phonenumbers.NumberParseException as error:
            raise RuleError("phone") from error
        if not phonenumbers.is_possible_number(number):
            raise RuleError("phone")
        return str(phonenumbers.format_number(number, number_format))

    return read


def _name_case(text: str) -> str:
    """`O'NEIL-SMITH` → `O'Neil-Smith`; a name that is not all upper or lower case is left as its owner writes it."""
    if not (text.isupper() or text.islower()):
        return text
    return re.sub(r"[^\W\d_]+", lambda match: match[0].capitalize(), text)


def _split(given: Given) -> Callable[[str], Any]:
    separator, index = given["separator"], given["index"]
    if not separator:
        raise ValueError("separator is not empty")

    def read(text: str) -> Any:
        parts = [part.strip() for part in text.split(separator)]
        if index is None:
            return [part for part in parts if part] or None
        return (parts[index] or None) if -len(parts) <= index < len(parts) else None

    return read


def _join(given: Given, _: Surroundings) -> Apply:
    separator = given["separator"]

    def read(value: Any) -> Any:
        items = value if isinstance(value, list) else [value]
        if not all(item is None or isinstance(item, str) for item in items):
            raise RuleError("texts")
        return separator.join(item for item in items if item) or None

    return read


def _concat(given: Given) -> Callable[[str], Any]:
    before, after = given["before"], given["after"]
    return lambda text: f"{before}{text}{after}"


def _lookup(given: Given) -> Callable[[str], Any]:
    table = given["table"]
    folded = {str(key).strip().casefold(): value for key, value in table.items()}
    unknown = given["unknown"]

    def read(text: str) -> Any:
        found = folded.get(text.strip().casefold())
        if found is not None:
            return found
        if unknown == "keep":
            return text
        if unknown == "absent":
            return None
        raise RuleError("lookup.unknown")

    return read


def _value_map(given: Given, surroundings: Surroundings) -> Apply:
    name, system, unknown = given["map"], given["system"] or "", given["unknown"]
    found = surroundings.value_maps.get(name)
    if found is None:
        raise ValueError(f"there is no value map {name}")

    def read(value: Any) -> Any:
        code, code_system, display = value, system, None
        if isinstance(value, dict):
            code, code_system, display = value.get("code"), value.get("system") or system, value.get("display")
        if not isinstance(code, str) or not isinstance(code_system, str):
            raise RuleError("text")
        target = found.target(code, code_system, display if isinstance(display, str) else "")
        if target is None and unknown == "reject":
            raise RuleError(f"value-map.{name}.unmapped")
        return target if target is not None or unknown == "absent" else code

    return read


def _regex(given: Given) -> Callable[[str], Any]:
    pattern, group = given["pattern"], given["group"]
    if len(pattern) > _PATTERN_CHARACTERS_MAX or _UNSAFE.search(pattern):
        raise ValueError("pattern has at most 100 characters, no repeated group, look-around or back reference")
    # Every further repetition multiplies the steps of a search by the length of the text; an escaped one counts, too.
    if len(re.findall(r"[*+{]", pattern)) > _REPETITIONS_MAX:
        raise ValueError(f"pattern has at most {_REPETITIONS_MAX} repetitions")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError) as error:
        raise ValueError("pattern is no regular expression") from error
    if not 0 <= group <= compiled.groups:
        raise ValueError("group is one of the pattern's")

    def read(text: str) -> Any:
        match = compiled.search(text[:_MATCHED_CHARACTERS_MAX])
        if match is None:
            raise RuleError("regex.no-match")
        return match[group] or None

    return read


def _constant(given: Given, _: Surroundings) -> Apply:
    value = given["value"]
    return lambda _value: value


def _decimal(given: Given, _: Surroundings) -> Apply:
    places, point = given["places"], given["point"]
    if places is not None and not 0 <= places <= 6:
        raise ValueError("places is 0 to 6")
    thousands = "," if point == "." else "."

    def read(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise RuleError("decimal")
        text = str(value).strip().replace(thousands, "").replace(point, ".") if type(value) is str else str(value)
        try:
            number = Decimal(text.lstrip("$€£ "))
            if not number.is_finite() or abs(number.adjusted()) > 18:
                raise RuleError("decimal")
            return f"{number:f}" if places is None else f"{number:.{places}f}"
        except InvalidOperation as error:
            raise RuleError("decimal") from error

    return read


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is not str or not re.fullmatch(r"[+-]?[0-9]{1,15}", value.strip()):
        raise RuleError("integer")
    return int(value)


def _boolean(given: Given, _: Surroundings) -> Apply:
    words = dict.fromkeys((str(word).casefold() for word in given["yes"]), True)
    words |= dict.fromkeys((str(word).casefold() for word in given["no"]), False)

    def read(value: Any) -> bool:
        if isinstance(value, bool):
            return value
        answer = words.get(str(value).strip().casefold()) if isinstance(value, (str, int)) else None
        if answer is None:
            raise RuleError("boolean")
        return answer

    return read


def _presence(value: Any) -> Any:
    """A boolean says itself; any other value says that it is so (a date of death)."""
    return value if isinstance(value, bool) else True if value else None


def _lines(text: str) -> Any:
    return [line.strip() for line in re.split(r"[\r\n]+|\\.br\\", text) if line.strip()] or None


def _instant_plus(given: Given) -> Callable[[str], Any]:
    minutes = timedelta(minutes=given["minutes"])

    def read(text: str) -> str:
        try:
            return (datetime.fromisoformat(text) + minutes).isoformat()
        except (ValueError, OverflowError) as error:
            raise RuleError("instant") from error

    return read


def _trim(value: Any) -> Any:
    """Without blanks around it, None for an empty text; what is no text is left for the target to refuse."""
    return (value.strip() or None) if type(value) is str else value


def _trimmed(_given: Given, _surroundings: Surroundings) -> Apply:
    return _trim


_UNKNOWN: Final = Parameter("unknown", "text", "reject", choices=("reject", "keep", "absent"))
_SEPARATOR: Final = Parameter("separator", "text", " ")
_ROWS: Final = (
    Transform("trim", "any", "same", _trimmed),
    Transform("upper", "text", "text", _text(str.upper)),
    Transform("lower", "text", "text", _text(str.lower)),
    Transform("name-case", "text", "text", _text(_name_case)),
    Transform("split", "text", "texts", _on_text(_split), (_SEPARATOR, Parameter("index", "integer"))),
    Transform("join", "texts", "text", _join, (_SEPARATOR,)),
    Transform("concat", "text", "text", _on_text(_concat), (
        Parameter("before", "text", ""), Parameter("after", "text", ""),
    )),
    Transform("date", "text", "date", _on_text(_date), (Parameter("formats", "texts", ["%Y-%m-%d"]),)),
    Transform("date-time", "text", "instant", _on_text(_date_time), (
        Parameter("formats", "texts", ["%iso"]), Parameter("zone", "text"),
    )),
    Transform("instant-offset", "text", "text", _text(_instant_offset)),
    Transform("full-instant", "text", "instant", _text(_full_instant)),
    Transform("plus-minutes", "text", "instant", _on_text(_instant_plus), (
        Parameter("minutes", "integer", required=True),
    )),
    Transform("phone", "text", "text", _on_text(_phone), (
        Parameter("region", "text", "US"),
        Parameter("format", "text", "e164", choices=("e164", "international", "national")),
    )),
    Transform("lookup", "text", "any", _on_text(_lookup), (Parameter("table", "object", required=True), _UNKNOWN)),
    Transform("value-map", "any", "text", _value_map, (
        Parameter("map", "text", required=True), Parameter("system", "text"), _UNKNOWN,
    )),
    Transform("regex", "text", "text", _on_text(_regex), (
        Parameter("pattern", "text", required=True), Parameter("group", "integer", 0),
    )),
    Transform("constant", "any", "any", _constant, (Parameter("value", "any", required=True),)),
    Transform("integer", "any", "integer", lambda _given, _surroundings: _integer),
    Transform("decimal", "any", "text", _decimal, (
        Parameter("places", "integer"), Parameter("point", "text", ".", choices=(".", ",")),
    )),
    Transform("boolean", "any", "boolean", _boolean, (
        Parameter("yes", "texts", ["y", "yes", "true", "1"]), Parameter("no", "texts", ["n", "no", "false", "0"]),
    )),
    Transform("presence", "any", "boolean", lambda _given, _surroundings: _presence),
    Transform("lines", "text", "texts", _text(_lines)),
)  # fmt: skip
PLAIN: Final[Mapping[str, Transform]] = {transform.name: transform for transform in _ROWS}
