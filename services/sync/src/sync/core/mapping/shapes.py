"""Transforms of whole parts: FHIR data types and HL7 v2 data types → parts of canonical records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from common.models.clock import offset_text
from common.models.identifier_systems import system_of
from sync.core.hl7_reading import present
from sync.core.mapping.rule import RuleError
from sync.core.mapping.transform import Apply, Surroundings, Transform
from sync.core.mapping.transforms import PLAIN

Given = Mapping[str, Any]


def _plain(function: Callable[[Any], Any]) -> Callable[[Given, Surroundings], Apply]:
    return lambda _given, _surroundings: function


# ---- FHIR R4 data types ----


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RuleError("object")
    return value


def _stripped(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _codings(value: Any) -> list[Mapping[str, Any]]:
    rows = _object(value).get("coding")
    if rows is None:
        return []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise RuleError("coding")
    return rows


def _fhir_concept(value: Any) -> Any:
    codings = [
        present(**{name: _stripped(row.get(name)) for name in ("system", "code", "display")}) for row in _codings(value)
    ]
    return present(coding=[row for row in codings if row], text=_stripped(value.get("text"))) or None


def _fhir_code(value: Any) -> Any:
    """The first code of a CodeableConcept, else its text."""
    codes = [_stripped(row.get("code")) for row in _codings(value)]
    return next((code for code in codes if code), None) or _stripped(value.get("text"))


def _fhir_reference(value: Any) -> Any:
    """A reference whose type is known, by its last two path segments or by its `type`; None when it names nothing."""
    row = _object(value)
    text = row.get("reference")
    if text is not None and not isinstance(text, str):
        raise RuleError("reference")
    parts = (text or "").strip().split("/_history/")[0].split("/")
    kind, external_id = (parts[-2], parts[-1]) if len(parts) > 1 else (None, None)
    found = present(
        type=kind or _stripped(row.get("type")),
        external_id=external_id,
        identifier=_fhir_identifier(row["identifier"]) if row.get("identifier") is not None else None,
        display=_stripped(row.get("display")),
    )
    return found if "type" in found else None


def _fhir_identifier(value: Any) -> Any:
    row = _object(value)
    if not _stripped(row.get("value")):
        return None
    assigner = row.get("assigner")
    return present(
        use=_stripped(row.get("use")),
        type=_fhir_code(row["type"]) if row.get("type") is not None else None,
        system=_stripped(row.get("system")),
        value=_stripped(row.get("value")),
        assigner=_stripped(_object(assigner).get("display")) if assigner is not None else None,
    )


def _fhir_texts(value: Any) -> Any:
    """A list of texts without blanks; null stands where only an extension does (R4 §2.6.2.1)."""
    items = value if isinstance(value, list) else [value]
    if not all(item is None or isinstance(item, str) for item in items):
        raise RuleError("texts")
    return [item.strip() for item in items if item and item.strip()] or None


def _fhir_name_text(value: Any) -> Any:
    """HumanName.text, where it says more than the parts."""
    row = _object(value)
    text = _stripped(row.get("text"))
    if text is None or not isinstance(text, str):
        return text
    given, prefix, suffix = ((_fhir_texts(row.get(name) or []) or []) for name in ("given", "prefix", "suffix"))
    family = row.get("family") or ""
    if not isinstance(family, str):
        raise RuleError("family")
    plain = (" ".join((*prefix, *given, family, *suffix)).split(), " ".join((*given, family)).split())
    return None if text.split() in plain else text


def _fhir_language(value: Any) -> Any:
    """Of Patient.communication: the code of the language marked as preferred, or of the only one."""
    rows = value if isinstance(value, list) else [value]
    chosen = [row for row in rows if _object(row).get("preferred") is True] or (rows if len(rows) == 1 else [])
    if len(chosen) != 1 or chosen[0].get("language") is None:
        return None
    return _fhir_code(chosen[0]["language"])


# ---- HL7 v2 data types; what they take is what `gather` gives: texts, "" for what is absent ----


def _texts(value: Any, count: int) -> list[str]:
    if not isinstance(value, list) or len(value) < count:
        raise RuleError("gather")
    return [text if isinstance(text, str) else "" for text in value]


def _identifier_system(_given: Given, surroundings: Surroundings) -> Apply:
    """Namespace, universal id, its type, identifier type (HD and CX.5, v2.5.1 §2.A.14, §2.A.33)."""

    def read(value: Any) -> Any:
        namespace, universal_id, universal_type, kind = _texts(value, 4)[:4]
        return system_of(surroundings.systems, namespace, universal_id, universal_type, kind)

    return read


def _identifier_assigner(given: Given, surroundings: Surroundings) -> Apply:
    """Who assigned it, where no system is known."""
    system = _identifier_system(given, surroundings)

    def read(value: Any) -> Any:
        return None if system(value) else (value[0] or value[1] or None)

    return read


_TIME_OF_DAY: Final = re.compile(r"([0-9]{2,6}(\.[0-9]+)?)?([+-][0-9]{4})?")


def _hl7_date(value: Any) -> Any:
    """TS with a precision of at least a year; a time of day is left out."""
    text = value if isinstance(value, str) else ""
    digits, time_of_day = text[:8], text[8:]
    if not digits.isdecimal() or len(digits) not in {4, 6, 8} or not _TIME_OF_DAY.fullmatch(time_of_day):
        raise ValueError("hl7-date")
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


def _hl7_time(_given: Given, surroundings: Surroundings) -> Apply:
    """TS or DTM → instant text with the source's offset, in the facility's zone where it names none."""

    def read(value: Any) -> Any:
        instant = surroundings.read_time(value) if surroundings.read_time and isinstance(value, str) else None
        if instant is None:
            raise ValueError("hl7-time")
        return instant.isoformat()

    return read


def _hl7_offset(given: Given, surroundings: Surroundings) -> Apply:
    def read(value: Any) -> Any:
        instant = surroundings.read_time(value) if surroundings.read_time and isinstance(value, str) else None
        return offset_text(instant) if instant is not None else None

    return read


_IS_MAIL: Final = frozenset({"INTERNET", "X.400"})
_EQUIPMENT: Final = {"FX": "fax", "BP": "pager"}
_POINT_USES: Final = {"PRN": "home", "ORN": "home", "VHN": "home", "WPN": "work"}


def _is_mail(part: Sequence[str]) -> bool:
    return part[1].upper() == "NET" or part[2].upper() in _IS_MAIL


def _xtn_system(value: Any) -> Any:
    """Telephone numbers and e-mail (XTN, §2.A.89)."""
    part = _texts(value, 3)
    return "email" if _is_mail(part) else _EQUIPMENT.get(part[2].upper(), "phone")


def _xtn_value(value: Any) -> Any:
    part = _texts(value, 12)
    if _is_mail(part):
        return part[3] or part[0] or None
    if part[0] or part[11]:
        return part[0] or part[11]
    number = " ".join(piece for piece in (f"+{part[4].lstrip('+')}" if part[4] else "", part[5], part[6]) if piece)
    return (f"{number} x{part[7]}" if number and part[7] else number) or None


def _xtn_use(value: Any) -> Any:
    """XTN.1 to .3 and the number of the field: PID-14 is the number at work."""
    part = _texts(value, 4)
    if part[2].upper() == "CP":
        return "mobile"
    return _POINT_USES.get(part[1].upper(), "work" if part[3] == "14" else None)


def _hl7_concept(value: Any) -> Any:
    """CE or CWE: code and text; the name of its coding system is no URI, so it is not passed on (§2.A.11)."""
    code, text = _texts(value, 2)[:2]
    return (present(coding=[present(code=code, display=text)]) if code else present(text=text)) or None


def _kept_texts(value: Any) -> Any:
    """Those of the gathered texts that are there."""
    return [text for text in _texts(value, 1) if text] or None


def _further_names(value: Any) -> Any:
    """XPN.2 and XPN.3: a given name, and further ones between blanks (§2.A.88)."""
    given, further = _texts(value, 2)[:2]
    return [name for name in (given, *further.split()) if name] or None


_MINUTES: Final = {
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 1),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 60),
}


def _hl7_minutes(value: Any) -> Any:
    """Pairs of amount and unit: the first whose unit is named; without a unit an amount says nothing."""
    parts = _texts(value, 2)
    for amount, unit in zip(parts[::2], parts[1::2], strict=False):
        factor = _MINUTES.get(unit.casefold())
        if factor is not None and amount.isdecimal() and len(amount) < 7 and int(amount):
            return int(amount) * factor
    return None


_ROWS: Final = (
    Transform("fhir-concept", "object", "object", _plain(_fhir_concept)),
    Transform("fhir-code", "object", "text", _plain(_fhir_code)),
    Transform("fhir-reference", "object", "object", _plain(_fhir_reference)),
    Transform("fhir-identifier", "object", "object", _plain(_fhir_identifier)),
    Transform("fhir-texts", "list", "texts", _plain(_fhir_texts)),
    Transform("fhir-name-text", "object", "text", _plain(_fhir_name_text)),
    Transform("fhir-language", "list", "text", _plain(_fhir_language)),
    Transform("identifier-system", "texts", "text", _identifier_system),
    Transform("identifier-assigner", "texts", "text", _identifier_assigner),
    Transform("hl7-date", "text", "date", _plain(_hl7_date)),
    Transform("hl7-time", "text", "instant", _hl7_time),
    Transform("hl7-offset", "text", "text", _hl7_offset),
    Transform("hl7-concept", "texts", "object", _plain(_hl7_concept)),
    Transform("hl7-minutes", "texts", "integer", _plain(_hl7_minutes)),
    Transform("texts", "texts", "texts", _plain(_kept_texts)),
    Transform("further-names", "texts", "texts", _plain(_further_names)),
    Transform("xtn-system", "texts", "code", _plain(_xtn_system)),
    Transform("xtn-value", "texts", "text", _plain(_xtn_value)),
    Transform("xtn-use", "texts", "code", _plain(_xtn_use)),
)
TRANSFORMS: Final[Mapping[str, Transform]] = {**PLAIN, **{row.name: row for row in _ROWS}}
"""Every transform by name; `gather` is the compiler's own."""
