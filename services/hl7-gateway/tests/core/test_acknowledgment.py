"""Which acknowledgements a message is given."""

import pytest

from hl7_gateway.core.acknowledgment import Outcome, acknowledgment_codes

GOOD, FAILED, REJECTED = Outcome.ACCEPTED, Outcome.FAILED, Outcome.REJECTED


@pytest.mark.parametrize(
    ("accept", "application", "outcome", "codes"),
    [
        ("", "", GOOD, ("AA",)),
        ("", "", FAILED, ("AE",)),
        ("", "", REJECTED, ("AR",)),
        ("AL", "NE", GOOD, ("CA",)),
        ("AL", "NE", FAILED, ("CE",)),
        ("AL", "NE", REJECTED, ("CR",)),
        ("AL", "AL", GOOD, ("CA", "AA")),
        ("AL", "AL", FAILED, ("CE",)),
        ("AL", "", GOOD, ("CA",)),
        ("", "AL", GOOD, ("AA",)),
        ("NE", "AL", REJECTED, ("AR",)),
        ("NE", "NE", GOOD, ()),
        ("ER", "NE", GOOD, ()),
        ("ER", "NE", FAILED, ("CE",)),
        ("SU", "ER", GOOD, ("CA",)),
        ("SU", "ER", REJECTED, ("AR",)),
        ("al", "ne", GOOD, ("CA",)),
        ("??", "NE", FAILED, ("CE",)),
    ],
)
def test_the_mode_and_the_outcome_choose_the_codes(
    accept: str, application: str, outcome: Outcome, codes: tuple[str, ...]
) -> None:
    assert acknowledgment_codes(outcome, accept, application) == codes


@pytest.mark.parametrize("accept", ["", "AL", "NE", "ER", "SU", "x"])
@pytest.mark.parametrize("application", ["", "AL", "NE", "ER", "SU", "x"])
@pytest.mark.parametrize("outcome", [FAILED, REJECTED])
def test_no_positive_code_for_what_is_not_stored(accept: str, application: str, outcome: Outcome) -> None:
    assert not {"AA", "CA"} & set(acknowledgment_codes(outcome, accept, application))
