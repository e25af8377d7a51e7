"""Invented patients and what becomes of them in a second register: the material on which the default model is set.

Chance is an argument. Households are part of it, because they are what a matcher gets wrong: couples, children with a
parent's name, twins, all with one address and often one telephone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, Protocol, TypeVar

from common.models.records import Address, ContactPoint, HumanName, Identifier, Patient
from sync.core.linkage.identifiers import US_SSN
from sync.core.linkage.nicknames import FAMILIES

Item = TypeVar("Item")


class Chance(Protocol):
    """What `random.Random(seed)` offers."""

    def random(self) -> float:
        """0 ≤ x < 1."""

    def randrange(self, start: int, stop: int, /) -> int:
        """start ≤ x < stop."""

    def choice(self, seq: Sequence[Item], /) -> Item:
        """One of them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_WOMEN: Final = _words(
    "Mary Patricia Linda Barbara Elizabeth Jennifer Maria Susan Margaret Dorothy Lisa Nancy Karen Betty Helen Sandra "
    "Donna Carol Ruth Sharon Michelle Laura Sarah Kimberly Deborah Jessica Shirley Cynthia Angela Melissa Brenda Amy "
    "Anna Rebecca Virginia Kathleen Pamela Martha Debra Amanda Stephanie Carolyn Christine Marie Janet Catherine "
    "Frances Ann Joyce Diane Alice Julie Heather Teresa Doris Gloria Evelyn Jean Cheryl Mildred Katherine Joan Ashley "
    "Judith Rose Janice Kelly Nicole Judy Christina Kathy Theresa Beverly Denise Tammy Irene Jane Lori Rachel Marilyn "
    "Andrea Kathryn Louise Sara Anne Jacqueline Wanda Bonnie Julia Ruby Lois Tina Phyllis Norma Paula Diana Annie "
    "Lillian Emily Robin Guadalupe Yolanda Aaliyah Zoe Ngoc Mei Fatima Aisha Priya Ingrid Oksana Svetlana Katarzyna "
    "Chiara Siobhan Noor Yuki Hye-jin"
)
_MEN: Final = _words(
    "James John Robert Michael William David Richard Charles Joseph Thomas Christopher Daniel Paul Mark Donald George "
    "Kenneth Steven Edward Brian Ronald Anthony Kevin Jason Matthew Gary Timothy Jose Larry Jeffrey Frank Scott Eric "
    "Stephen Andrew Raymond Gregory Joshua Jerry Dennis Walter Patrick Peter Harold Douglas Henry Carl Arthur Ryan "
    "Roger Joe Juan Jack Albert Jonathan Justin Terry Gerald Keith Samuel Willie Ralph Lawrence Nicholas Roy Benjamin "
    "Bruce Brandon Adam Harry Fred Wayne Billy Steve Louis Jeremy Aaron Randy Howard Eugene Carlos Russell Bobby "
    "Victor Martin Ernest Phillip Todd Jesse Craig Alan Shawn Clarence Sean Philip Chris Johnny Earl Jimmy Antonio "
    "Enrique Minh Wei Mohammed Omar Arjun Lars Dmitri Sergei Piotr Luca Ciaran Hassan Kenji Min-jun"
)
_FAMILIES: Final = _words(
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson "
    "Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis Robinson "
    "Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera Campbell "
    "Mitchell Carter Roberts Gomez Phillips Evans Turner Diaz Parker Cruz Edwards Collins Reyes Stewart Morris "
    "Morales Murphy Cook Rogers Gutierrez Ortiz Morgan Cooper Peterson Bailey Reed Kelly Howard Ramos Kim Cox Ward "
    "Richardson Watson Brooks Chavez Wood James Bennett Gray Mendoza Ruiz Hughes Price Alvarez Castillo Sanders Patel "
    "Myers Long Ross Foster Jimenez"
)
_STARTS: Final = _words(
    "Al Bar Ber Bran Cal Car Dal Dor El Fal Fer Gar Gol Hal Har Kal Kor Lan Lor Mal Mar Nor Or Pal Per Ros Sal San "
    "Tal Tor Val Ver Wal Win Zel"
)
_MIDDLES: Final = _words("a e i o u ab ad am an ar en er es in is ol on or ov um")
_ENDS: Final = _words("berg ley man sen son ski ton vic wood dale ford ini ez ova quist mann stein well worth land")
_STREETS: Final = _words(
    "Main Oak Pine Maple Cedar Elm Washington Lake Hill Park Walnut Spring North Ridge Church Willow Mill River "
    "Sunset Railroad Jackson Cherry Highland Forest Meadow Lincoln Center Franklin Johnson Dogwood Hickory Laurel "
    "Poplar"
)
_TYPES: Final = (
    ("Street", "St"), ("Avenue", "Ave"), ("Road", "Rd"), ("Drive", "Dr"), ("Lane", "Ln"), ("Court", "Ct"),
    ("Boulevard", "Blvd"), ("Circle", "Cir"),
)  # fmt: skip
_POSTAL_FIRST: Final = 62_701
_POSTAL_CODES: Final = 80
_CITIES: Final = ("Springfield", "Riverton", "Chatham", "Sherman", "Rochester", "Auburn", "Lincoln", "Decatur")
_PREFIXES: Final = ("de la", "van der", "von", "Mac", "O'")
_DOMAINS: Final = ("example.com", "mail.example", "post.example")
_KEYS: Final = {"a": "qs", "e": "wr", "i": "uo", "o": "ip", "n": "bm", "m": "n", "r": "et", "s": "ad", "t": "ry"}


@dataclass(frozen=True, slots=True)
class Life:
    """One invented person, before being written into a register."""

    family: str
    given: str
    middle: str
    suffix: str
    sex: Literal["male", "female"]
    birth: str
    phone: str
    email: str
    number: str
    street: tuple[str, str]
    unit: str
    city: str
    postal: str
    ssn: str
    maiden: str = ""


def _skewed(names: Sequence[str], chance: Chance) -> str:
    return names[int(len(names) * chance.random() ** 2)]


def _word(chance: Chance) -> str:
    return chance.choice(_STARTS) + chance.choice(_MIDDLES) + chance.choice(_ENDS)


def _family(chance: Chance) -> str:
    drawn = chance.random()
    if drawn < 0.45:
        return _skewed(_FAMILIES, chance)
    if drawn < 0.50:
        return f"{_skewed(_FAMILIES, chance)}-{_word(chance)}"
    if drawn < 0.53:
        return f"{chance.choice(_PREFIXES)} {_word(chance)}"
    return _word(chance)


def _given(sex: str, chance: Chance) -> str:
    return _skewed(_WOMEN if sex == "female" else _MEN, chance)


def _phone(chance: Chance) -> str:
    return f"({chance.randrange(201, 990)}) {chance.randrange(201, 990)}-{chance.randrange(0, 10_000):04}"


def _birth(year: int, chance: Chance) -> str:
    return f"{year:04}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"


def _head(chance: Chance) -> Life:
    sex: Literal["male", "female"] = "female" if chance.random() < 0.52 else "male"
    given, family = _given(sex, chance), _family(chance)
    # A practice's patients come from its surroundings.
    postal = _POSTAL_FIRST + int(_POSTAL_CODES * chance.random() ** 2)
    return Life(
        family=family,
        given=given,
        middle=_given(sex, chance) if chance.random() < 0.6 else "",
        suffix="",
        sex=sex,
        birth=_birth(chance.randrange(1932, 2000), chance),
        phone=_phone(chance),
        email=_email(given, family, chance),
        number=str(chance.randrange(1, 3000)),
        street=(
            f"{chance.choice(_STREETS)} {_word(chance) if chance.random() < 0.5 else ''}".strip(),
            chance.choice(_TYPES)[0],
        ),
        unit=str(chance.randrange(1, 60)) if chance.random() < 0.2 else "",
        city=_CITIES[postal % len(_CITIES)],
        postal=str(postal),
        ssn=_ssn(chance),
    )


def _email(given: str, family: str, chance: Chance) -> str:
    name = "".join(letter for letter in f"{given}.{family}".lower() if letter.isalnum() or letter == ".")
    return f"{name}{chance.randrange(1, 10_000)}@{chance.choice(_DOMAINS)}"


def _ssn(chance: Chance) -> str:
    return f"{chance.randrange(900, 999)}-{chance.randrange(10, 99)}-{chance.randrange(1000, 9999)}"


def _member(head: Life, chance: Chance, *, birth: str, sex: Literal["male", "female"], given: str = "") -> Life:
    given = given or _given(sex, chance)
    phone = head.phone if chance.random() < 0.5 else _phone(chance)
    email = _email(given, head.family, chance)
    middle = _given(sex, chance) if chance.random() < 0.6 else ""
    return replace(head, given=given, middle=middle, sex=sex, birth=birth, phone=phone, email=email, ssn=_ssn(chance))


def people(count: int, chance: Chance) -> list[Life]:
    """Persons in households: of ten heads four live with a partner, three have children, one in sixteen has twins."""
    found: list[Life] = []
    while len(found) < count:
        head = _head(chance)
        found.append(head)
        if chance.random() < 0.4:
            other: Literal["male", "female"] = "male" if head.sex == "female" else "female"
            birth = _birth(int(head.birth[:4]) + chance.randrange(-4, 5), chance)
            found.append(replace(_member(head, chance, birth=birth, sex=other), maiden=_family(chance)))
        if chance.random() < 0.3:
            found += _children(head, chance)
    return found[:count]


def _children(head: Life, chance: Chance) -> Iterator[Life]:
    year = min(int(head.birth[:4]) + chance.randrange(20, 40), 2024)
    first = _birth(year, chance)
    for _ in range(chance.randrange(1, 3)):
        sex: Literal["male", "female"] = chance.choice(("male", "female"))
        named = head.given if sex == head.sex and chance.random() < 0.15 else ""
        child = _member(head, chance, birth=first, sex=sex, given=named)
        yield replace(child, suffix="Jr." if named and chance.random() < 0.5 else "")
        if chance.random() < 0.12:
            twin: Literal["male", "female"] = chance.choice(("male", "female"))
            yield _member(head, chance, birth=first, sex=twin)
        first = _birth(min(year + chance.randrange(1, 6), 2024), chance)


def patient(life: Life, *, abbreviated: bool = False) -> Patient:
    """As a register writes a person; `abbreviated` with short street types."""
    short = dict(_TYPES)
    street = f"{life.street[0]} {short[life.street[1]] if abbreviated else life.street[1]}"
    lines = (f"{life.number} {street}".strip(), *((f"Apt {life.unit}",) if life.unit else ()))
    names = [
        HumanName(
            family=life.family or None,
            given=tuple(one for one in (life.given, life.middle) if one),
            suffix=(life.suffix,) if life.suffix else (),
        )
    ]
    return Patient(
        names=tuple(names),
        gender=life.sex,
        birth_date=life.birth or None,
        telecom=tuple(
            ContactPoint(system=system, value=value)
            for system, value in (("phone", life.phone), ("email", life.email))
            if value
        ),
        addresses=(Address(line=lines, city=life.city or None, postal_code=life.postal or None),)
        if life.number
        else (),
        identifiers=(Identifier(system=US_SSN, value=life.ssn),) if life.ssn else (),
    )


# ---- What becomes of a person in another register


def slip(text: str, chance: Chance) -> str:
    """One slip of the pen: a letter left out, doubled, exchanged with its neighbour, or another one struck."""
    if len(text) < 2:
        return text
    at = chance.randrange(0, len(text) - 1)
    kind = chance.randrange(0, 4)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[: at + 1] + text[at:]
    if kind == 2:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    letter = text[at]
    other = (
        str((int(letter) + chance.randrange(1, 10)) % 10)
        if letter.isdigit()
        else chance.choice(_KEYS.get(letter.lower(), "aeiou"))
    )
    return text[:at] + other + text[at + 1 :]


def _digit(text: str, chance: Chance) -> str:
    at = chance.choice([number for number, letter in enumerate(text) if letter.isdigit()])
    return text[:at] + str((int(text[at]) + chance.randrange(1, 10)) % 10) + text[at + 1 :]


def _birth_slip(birth: str, chance: Chance) -> str:
    year, month, day = birth.split("-")
    drawn = chance.random()
    if drawn < 0.3 and int(day) <= 12:
        return f"{year}-{day}-{month}"
    if drawn < 0.8:
        return f"{year}-{month}-{chance.randrange(1, 29):02}"
    if drawn < 0.95:
        return f"{int(year) + chance.choice((-10, -1, 1, 10)):04}-{month}-{day}"
    return _birth(int(year), chance)


def _nickname(given: str, chance: Chance) -> str:
    rows = FAMILIES.get(given.lower(), frozenset())
    names = sorted(name for name, numbers in FAMILIES.items() if numbers & rows)
    return chance.choice(names).title() if names else given


def _moved(life: Life, chance: Chance) -> Life:
    head = _head(chance)
    return replace(
        life, number=head.number, street=head.street, unit=head.unit, city=head.city, postal=head.postal,
        phone=head.phone if chance.random() < 0.4 else life.phone,
    )  # fmt: skip


def _street_slip(life: Life, chance: Chance) -> Life:
    return replace(life, street=(slip(life.street[0], chance), life.street[1]))


Change = Callable[[Life, Chance], Life]
CHANGES: Final[tuple[tuple[str, float, Change], ...]] = (
    ("family name with a slip", 0.05, lambda life, chance: replace(life, family=slip(life.family, chance))),
    ("given name with a slip", 0.05, lambda life, chance: replace(life, given=slip(life.given, chance))),
    ("nickname", 0.05, lambda life, chance: replace(life, given=_nickname(life.given, chance))),
    ("initial", 0.01, lambda life, _: replace(life, given=life.given[:1])),
    ("middle name alone", 0.01, lambda life, _: replace(life, given=life.middle or life.given, middle="")),
    ("no middle name", 0.3, lambda life, _: replace(life, middle="")),
    ("another family name", 0.02, lambda life, chance: replace(life, family=life.maiden or _family(chance))),
    ("half of a double name", 0.3, lambda life, _: replace(life, family=life.family.partition("-")[0])),
    ("another given name", 0.01, lambda life, chance: replace(life, given=_given(life.sex, chance))),
    ("names exchanged", 0.01, lambda life, _: replace(life, family=life.given, given=life.family)),
    ("no given name", 0.01, lambda life, _: replace(life, given="", middle="")),
    ("birth date with a slip", 0.03, lambda life, chance: replace(life, birth=_birth_slip(life.birth, chance))),
    ("another birth date", 0.005, lambda life, chance: replace(life, birth=_birth(int(life.birth[:4]) + 3, chance))),
    ("birth year alone", 0.005, lambda life, _: replace(life, birth=life.birth[:4])),
    ("no birth date", 0.01, lambda life, _: replace(life, birth="")),
    ("another sex", 0.005, lambda life, _: replace(life, sex="male" if life.sex == "female" else "female")),
    ("moved", 0.10, _moved),
    ("street with a slip", 0.05, _street_slip),
    ("house number with a slip", 0.03, lambda life, chance: replace(life, number=_digit(life.number, chance))),
    ("postal code with a slip", 0.03, lambda life, chance: replace(life, postal=_digit(life.postal, chance))),
    ("no address", 0.05, lambda life, _: replace(life, number="", street=("", "Street"), unit="", city="", postal="")),
    ("another telephone", 0.12, lambda life, chance: replace(life, phone=_phone(chance))),
    ("telephone with a slip", 0.02, lambda life, chance: replace(life, phone=_digit(life.phone, chance))),
    ("no telephone", 0.10, lambda life, _: replace(life, phone="")),
    ("another e-mail", 0.15, lambda life, chance: replace(life, email=_email(life.given, life.family, chance))),
    ("no e-mail", 0.35, lambda life, _: replace(life, email="")),
    ("social security number with a slip", 0.03, lambda life, chance: replace(life, ssn=_digit(life.ssn, chance))),
    ("somebody else's social security number", 0.01, lambda life, chance: replace(life, ssn=_ssn(chance))),
    ("no social security number", 0.6, lambda life, _: replace(life, ssn="")),
    ("no suffix", 0.2, lambda life, _: replace(life, suffix="")),
)  # fmt: skip
"""What happens, how often, and how: independent of one another, in this order."""


def changed(life: Life, chance: Chance) -> Life:
    """The person as another register has it."""
    for _, share, change in CHANGES:
        if chance.random() < share:
            life = change(life, chance)
    return life
