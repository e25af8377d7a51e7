"""Telephone numbers and e-mail addresses as they are compared."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import phonenumbers

_NANP: Final = re.compile(r"[\s().+-]*(?:1[\s.-]*)?\(?([2-9][0-9]{2})\)?[\s.-]*([2-9][0-9]{2})[\s.-]*([0-9]{4})\s*")
# Regions of the North American Numbering Plan that a practice names as its own; the plan has one country code, 1.
_NANP_REGIONS: Final = frozenset({"US", "CA", "PR"})
_TEXT_CHARACTERS_MAX: Final = 60
# Domains in which dots and what follows a plus are no part of the mailbox, by the operator's own documentation.
_DOTLESS: Final = frozenset({"gmail.com", "googlemail.com"})


def phone_key(text: str, region: str) -> str:
    """A number in E.164 form, its extension left away; `region` (ISO 3166) reads national ones. Empty when it is none.

    The usual notations of North American numbers are read here, everything else by the library.
    """
    if region in _NANP_REGIONS and (match := _NANP.fullmatch(text)) is not None:
        return _real("+1" + match[1] + match[2] + match[3])
    return _parsed(text[:_TEXT_CHARACTERS_MAX], region)


@lru_cache(65_536)
def _parsed(text: str, region: str) -> str:
    try:
        number = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return ""
    if not phonenumbers.is_possible_number(number):
        return ""
    number.extension = None
    return _real(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


def _real(number: str) -> str:
    # 999-999-9999 and the like stand for no number.
    return "" if len(set(number[-7:])) == 1 else number


def email_key(text: str) -> str:
    """An address in lower case; empty when it is none."""
    mailbox, at, domain = text.strip().lower().rpartition("@")
    if not at or not mailbox or "." not in domain or " " in mailbox:
        return ""
    if domain in _DOTLESS:
        mailbox, domain = mailbox.partition("+")[0].replace(".", ""), "gmail.com"
    return f"{mailbox}@{domain}"
