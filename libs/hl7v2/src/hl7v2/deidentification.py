"""A message without what identifies a person, by HIPAA's Safe Harbor (45 CFR 164.514(b)(2)), field by field.

An allow-list: a field is in the result only when a row below names it, and a value only when it has the form that the
row demands. So names, addresses below the state, telephone numbers, free text, Z segments, encapsulated data and
whatever nobody thought of are gone, and a name that somebody typed into the field of a code is as well.

- Dates keep their year; the year of birth goes where it says that somebody is over 89, and such an age is `90+`.
- Of an address state, country and three digits of a ZIP code are left, `000` where those three digits have 20,000
  inhabitants or fewer.
- Identifiers (patients, visits, orders, messages, facilities) are replaced: the same one by the same text within one
  `Pseudonyms`, which is made for one bundle of messages and thrown away with it. The texts are chance, never derived
  from what they replace (164.514(c)); chance is an argument, this library has none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from hl7v2.message import Message, Segment
from hl7v2.parser import parse


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


AGE_YEARS_MAX: Final = 89
AGED: Final = "90+"
REMOVED: Final = "REMOVED"
"""Stands for a name where the standard requires one (PID-5)."""
RESTRICTED_ZIP_PREFIXES: Final = _words("036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893")
"""The three-digit ZIP areas of 20,000 people or fewer, by the census of 2000: HHS Office for Civil Rights, "Guidance
Regarding Methods for De-identification of Protected Health Information" (2012), on 164.514(b)(2)(i)(B)."""
_STATES: Final = _words("""
    AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ NM NY NC ND OH OK OR
    PA RI SC SD TN TX UT VT VA WA WV WI WY PR GU VI AS MP
""")
_UNITED_STATES: Final = frozenset({"", "US", "USA", "840"})
_ZIP: Final = re.compile(r"([0-9]{3})[0-9]{2}(?:-?[0-9]{4})?")
_YEAR: Final = re.compile(r"([0-9]{4})(?:[0-9]{2}){0,5}(?:\.[0-9]{1,4})?(?:[+-][0-9]{4})?")
_YEAR_MIN: Final = 1850
_ATTEMPTS_MAX: Final = 100


class Pseudonyms:
    """The random map of one bundle: identifier → the text that stands for it.

    `chance` gives a new random text each time it is called (a token of some 16 hexadecimal digits): the caller's source
    of chance. Raises ValueError when it keeps giving texts that are taken.
    """

    def __init__(self, chance: Callable[[], str]) -> None:
        self._chance = chance
        self._texts: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, identifier: str) -> str:
        """The text that stands for an identifier; "" for none."""
        identifier = identifier.strip()
        if not identifier:
            return ""
        if identifier not in self._texts:
            self._texts[identifier] = self._new()
        return self._texts[identifier]

    def _new(self) -> str:
        for _ in range(_ATTEMPTS_MAX):
            text = self._chance()
            if text and text.isascii() and text.isalnum() and text not in self._taken:
                self._taken.add(text)
                return text
        raise ValueError("the source of chance gives no new texts of letters and digits")


@dataclass(frozen=True, slots=True)
class _Context:
    """What a rule may look at besides its field."""

    pseudonyms: Pseudonyms
    today: date


Rule = Callable[[Segment, int, int, _Context], str]
"""(segment, field, repetition, context) → what is left of the repetition, written with the default delimiters."""


def deidentify(message: Message, pseudonyms: Pseudonyms, *, today: date) -> Message:
    """What is left of a message: its own version, in ASCII with the default delimiters. The message is not changed.

    `today` is what ages are counted to (the later, the stricter). Raises nothing, whatever the message holds.
    """
    context = _Context(pseudonyms, today)
    written = []
    for segment in message:
        rules = _RULES.get(segment.name)
        if rules is not None:
            written.append(_written(segment, rules, context))
    return parse("".join(f"{line}\r" for line in written).encode("ascii"))


def _written(segment: Segment, rules: Mapping[int, Rule], context: _Context) -> str:
    fields = [""] * max(rules)
    for number, rule in rules.items():
        count = min(segment.repetitions(number), 1 if number in _ONCE.get(segment.name, ()) else _REPETITIONS_MAX)
        kept = [rule(segment, number, repetition, context) for repetition in range(1, count + 1)]
        fields[number - 1] = "~".join(kept).rstrip("~")
    if segment.name == "MSH":
        fields[0] = "^~\\&"
        return "|".join(["MSH", *fields[:1], *fields[2:]]).rstrip("|")
    if segment.name == "PID" and not fields[4]:
        fields[4] = REMOVED
    return "|".join([segment.name, *fields]).rstrip("|")


_REPETITIONS_MAX: Final = 200
_ONCE: Final[Mapping[str, tuple[int, ...]]] = {"MSH": (1, 2)}


def _part(segment: Segment, field: int, repetition: int, component: int, subcomponent: int = 1) -> str:
    return segment[f"{field}[{repetition}].{component}.{subcomponent}"].strip()


def _components(parts: Iterable[str]) -> str:
    return "^".join(parts).rstrip("^")


# ---- Rules. Each gives only what it knows to be harmless, and nothing else.


def _form(pattern: str) -> Rule:
    """Component 1, where all of it has this form."""
    compiled = re.compile(pattern)

    def rule(segment: Segment, field: int, repetition: int, context: _Context) -> str:
        text = _part(segment, field, repetition, 1)
        return text if compiled.fullmatch(text) else ""

    return rule


def _one_of(values: str) -> Rule:
    """Component 1, where it is one of these codes."""
    allowed = frozenset(values.split())

    def rule(segment: Segment, field: int, repetition: int, context: _Context) -> str:
        text = _part(segment, field, repetition, 1)
        return text if text in allowed else ""

    return rule


def _year(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """The year of a date or time."""
    return _year_of(_part(segment, field, repetition, 1), context.today)


def _birth_year(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """The year of birth, unless who was born in it may be over 89."""
    year = _year_of(_part(segment, field, repetition, 1), context.today)
    return year if year and context.today.year - int(year) <= AGE_YEARS_MAX else ""


def _year_of(text: str, today: date) -> str:
    match = _YEAR.fullmatch(text)
    return match[1] if match is not None and _YEAR_MIN <= int(match[1]) <= today.year + 2 else ""


def _identifier(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """CX, EI, HD and the like: the identifier and who assigned it replaced, the kind of identifier (CX.5) kept."""
    of = context.pseudonyms.of
    kind = _part(segment, field, repetition, 5)
    return _components(
        [
            of(_part(segment, field, repetition, 1)),
            "",
            "",
            of(_part(segment, field, repetition, 4)),
            kind if kind in _IDENTIFIER_TYPES else "",
        ]
    )


def _message_type(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    parts = [_part(segment, field, repetition, number) for number in (1, 2, 3)]
    event = re.fullmatch(r"[A-Z][0-9]{2}", parts[1])
    structure = re.fullmatch(r"([A-Z]{3})(?:_[A-Z][0-9]{2})?", parts[2])
    return _components(
        [
            parts[0] if parts[0] in _MESSAGE_TYPES else "",
            parts[1] if event else "",
            parts[2] if structure and structure[1] in _MESSAGE_TYPES else "",
        ]
    )


def _address(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """State, three digits of the ZIP code and country of an XAD."""
    state, code, country = (_part(segment, field, repetition, number).upper() for number in (4, 5, 6))
    in_states = country in _UNITED_STATES
    return _components(
        [
            "",
            "",
            "",
            state if in_states and state in _STATES else "",
            _zip_area(code) if in_states else "",
            country if country in _UNITED_STATES or country in _COUNTRIES else "",
        ]
    )


def _zip_area(code: str) -> str:
    match = _ZIP.fullmatch(code)
    if match is None:
        return ""
    return "000" if match[1] in RESTRICTED_ZIP_PREFIXES else match[1]


def _coded(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """CE, CWE, CNE: codes of the public systems that have a form of their own, without their texts."""
    kept = []
    for code, system in ((1, 3), (4, 6)):
        text, name = _part(segment, field, repetition, code), _part(segment, field, repetition, system).upper()
        form = _SYSTEMS.get(name)
        fits = form is not None and form.fullmatch(text) is not None
        kept += [text, "", name] if fits else ["", "", ""]
    return _components(kept)


def _observation_type(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    if _aged(segment):
        return "ST"
    kind = _part(segment, field, repetition, 1)
    return kind if kind in _VALUE_RULES else ""


def _observation(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """OBX-5, by OBX-2: numbers, codes and years; no text, and nothing encapsulated."""
    if _aged(segment):
        return AGED if repetition == 1 else ""
    rule = _VALUE_RULES.get(_part(segment, 2, 1, 1))
    return rule(segment, field, repetition, context) if rule is not None else ""


def _aged(segment: Segment) -> bool:
    """Whether an observation is an age over 89."""
    if _part(segment, 3, 1, 1) not in _AGE_CODES and _part(segment, 3, 1, 4) not in _AGE_CODES:
        return False
    text = _part(segment, 5, 1, 2) if _part(segment, 2, 1, 1) == "SN" else _part(segment, 5, 1, 1)
    if re.fullmatch(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", text) is None:
        return False
    return float(text) * _YEARS.get(_part(segment, 6, 1, 1).lower(), 1.0) >= AGE_YEARS_MAX + 1


def _structured_number(segment: Segment, field: int, repetition: int, context: _Context) -> str:
    """SN: comparator, number, separator, number."""
    forms = (r"[<>]?=?", _NUMBER, r"[-+/.:]?", _NUMBER)
    parts = [_part(segment, field, repetition, number) for number in (1, 2, 3, 4)]
    return _components(part if re.fullmatch(form, part) else "" for part, form in zip(parts, forms, strict=True))


# Short, and without a zero in front: five digits may be a ZIP code, three and four behind a dash a telephone number.
_NUMBER: Final = r"[+-]?(?:0|[1-9][0-9]{0,3})(?:\.[0-9]{1,6})?"
_BOUND: Final = r"(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,3})?"
_RANGE: Final = rf"(?:[<>]=?)?{_BOUND}(?: ?- ?{_BOUND})?"
_SET_ID: Final = _form(r"[0-9]{1,4}")
_CODE_FLAG: Final = _one_of("Y N")
_COUNTRIES: Final = _words("CAN MEX GBR IRL AUS NZL DEU FRA ESP ITA NLD BEL CHE AUT DNK NOR SWE FIN JPN KOR CHN")
# HL7 table 0203, as far as it is about people and their stays and orders.
_IDENTIFIER_TYPES: Final = _words("AN DL MC MA MR NPI PI PN PPN PT SS SR VN XX FILL PLAC RI U UPIN EI EN")
_MESSAGE_TYPES: Final = _words("""
    ACK ADT BAR DFT MDM MFK MFN OMG OML OMP ORG ORL ORM ORP ORR ORU OUL PPR QBP QCK QRY RAS RDE RDS RGV RRA RRE RSP SIU
    SQM SRM SRR VXQ VXR VXU
""")
_SYSTEMS: Final[Mapping[str, re.Pattern[str]]] = {
    **dict.fromkeys(("LN", "LOINC"), re.compile(r"[0-9]{1,6}-[0-9]")),
    **dict.fromkeys(
        ("I10", "I10C", "ICD10", "ICD-10-CM"), re.compile(r"[A-TV-Z][0-9][0-9A-B](?:\.?[0-9A-TV-Z]{1,4})?")
    ),
    **dict.fromkeys(("I9", "I9C", "ICD9"), re.compile(r"(?:[0-9]{3}|V[0-9]{2}|E[0-9]{3})(?:\.[0-9]{1,2})?")),
    **dict.fromkeys(("C4", "CPT", "CPT4"), re.compile(r"[0-9]{4}[0-9FTU]")),
    "HCPCS": re.compile(r"[A-V][0-9]{4}"),
    "CVX": re.compile(r"[0-9]{2,3}"),
    "CDCREC": re.compile(r"[0-9]{4}-[0-9]"),
}
# LOINC: age, estimated, reported, calculated, at death, at collection of the specimen.
_AGE_CODES: Final = frozenset({"30525-0", "21611-9", "21612-7", "29553-5", "63900-5", "35659-2"})
_YEARS: Final = {"mo": 1 / 12, "months": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25, "days": 1 / 365.25, "h": 1 / 8766}
_UNITS: Final = """
    % /uL a cm cm2 d fL g g/L g/dL h kg kg/m2 L m mL mg mg/L mg/dL min mm mmHg mm[Hg] mmol mmol/L mEq/L mo ng ng/L ng/mL
    nmol/L pg pg/mL ph pmol/L ratio s U U/L IU/L IU/mL ug ug/L ug/dL ug/mL umol/L wk 10*3/uL 10*6/uL 10*9/L 10*12/L /min
    bpm Cel [degF] mL/min
"""
_VALUE_RULES: Final[Mapping[str, Rule]] = {
    "NM": _form(_NUMBER), "SN": _structured_number, "CE": _coded, "CWE": _coded, "CNE": _coded, "CF": _coded,
    "DT": _year, "DTM": _year, "TS": _year,
}  # fmt: skip
_ANSWERS: Final = _one_of("AL NE ER SU")
_SEX: Final = _one_of("F M O U A N X")
_ORDER_STATUS: Final = _one_of("A CA CM DC ER HD IP RP SC")
_SECTION: Final = _one_of("""
    AU BG BLB CG CH CP CT CTH CUS EC EN GE HM ICU IMG IMM LAB MB MCB MYC NMR NMS NRS OSL OT OTH OUS PAR PAT PF PHR PHY
    PT RAD RC RT RUS RX SP SR TX URN VR VUS XRC
""")
_APPOINTMENT_STATUS: Final = _one_of("""
    Booked Blocked Cancelled Complete Deleted Dc Noshow Overbook Pending Started Waitlist
""")
_RESULT_STATUS: Final = _one_of("O I S A P C R F X Y Z N D B U W")

_RULES: Final[Mapping[str, Mapping[int, Rule]]] = {
    "MSH": {
        3: _identifier, 4: _identifier, 5: _identifier, 6: _identifier, 7: _year, 9: _message_type, 10: _identifier,
        11: _one_of("P D T"), 12: _form(r"2\.[0-9](?:\.[0-9])?"), 15: _ANSWERS, 16: _ANSWERS,
    },
    "MSA": {1: _one_of("AA AE AR CA CE CR"), 2: _identifier},
    "EVN": {1: _form(r"[A-Z][0-9]{2}"), 2: _year, 6: _year},
    "PID": {
        1: _SET_ID, 2: _identifier, 3: _identifier, 4: _identifier, 7: _birth_year, 8: _SEX, 10: _coded, 11: _address,
        16: _one_of("A B C D E G I M N O P R S T U W"), 18: _identifier, 22: _coded, 24: _CODE_FLAG, 29: _year,
        30: _CODE_FLAG,
    },
    "MRG": {1: _identifier, 2: _identifier, 3: _identifier, 4: _identifier, 5: _identifier, 6: _identifier},
    "PV1": {
        1: _SET_ID, 2: _one_of("B C E I N O P R U"), 4: _one_of("A C E L N R U"), 5: _identifier, 19: _identifier,
        36: _form(r"[0-9]{2}"), 44: _year, 45: _year, 50: _identifier,
    },
    "ORC": {
        1: _one_of("NW OK RE CA CR DC SC SN NA XO XX AF CH PA"), 2: _identifier, 3: _identifier, 4: _identifier,
        5: _ORDER_STATUS, 9: _year,
    },
    "OBR": {
        1: _SET_ID, 2: _identifier, 3: _identifier, 4: _coded, 6: _year, 7: _year, 8: _year, 14: _year, 22: _year,
        24: _SECTION,
        25: _RESULT_STATUS,
    },
    "OBX": {
        1: _SET_ID, 2: _observation_type, 3: _coded, 4: _SET_ID, 5: _observation, 6: _one_of(_UNITS), 7: _form(_RANGE),
        8: _one_of("L H LL HH < > N A AA U D B W S R I MS VS POS NEG"), 11: _RESULT_STATUS, 14: _year, 19: _year,
    },
    "AL1": {1: _SET_ID, 2: _one_of("AA DA EA FA LA MA MC PA"), 3: _coded, 4: _one_of("MI MO SV U"), 6: _year},
    "DG1": {1: _SET_ID, 2: _one_of("I9 I10 I10C I9C"), 3: _coded, 5: _year, 6: _one_of("A W F")},
    "PR1": {1: _SET_ID, 3: _coded, 5: _year},
    "SCH": {1: _identifier, 2: _identifier, 25: _APPOINTMENT_STATUS},
    "AIS": {1: _SET_ID, 3: _coded, 4: _year},
    "RXA": {1: _SET_ID, 2: _SET_ID, 3: _year, 4: _year, 5: _coded, 6: _form(_NUMBER), 20: _one_of("CP NA PA RE"),
            21: _one_of("A D U X")},
    "FT1": {1: _SET_ID, 2: _identifier, 4: _year, 6: _one_of("CG CD PY AJ CO"), 19: _coded, 25: _coded},
}  # fmt: skip
"""Segment → field → rule. What is not here is not in the result."""
