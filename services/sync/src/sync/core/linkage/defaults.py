"""The model that is used unless an integration has its own.

m and u are counted on `synthetic.people` and what `synthetic.changed` makes of them (20,000 persons and 200,000 pairs
drawn at random, two digits kept); no other data had a part in it. What so few pairs cannot show is set by judgement:
`transposed` counts once, in the family name; `similar` names and a suffix are weak evidence; levels that a veto
or an identifier's proof decides weigh nothing.
"""

from __future__ import annotations

from typing import Final

from sync.core.linkage.model import LevelRow, Model

MATCH_ODDS: Final = 20.0
REVIEW_ODDS: Final = 0.5

DEFAULT_ROWS: Final = (
    LevelRow("identifier", "same", 0.96, 6e-6),
    LevelRow("identifier", "slip", 0.027, 6e-6),
    LevelRow("identifier", "differs", 0.011, 1),
    LevelRow("identifier", "other-person", 1.0, 1.0),
    LevelRow("identifier", "proves", 1.0, 1.0),
    LevelRow("identifier", "contradicts", 1.0, 1.0),
    LevelRow("family", "same", 0.91, 0.0043),
    LevelRow("family", "form", 0.017, 0.0011),
    LevelRow("family", "close", 0.045, 0.0015),
    LevelRow("family", "similar", 0.002, 0.0011),
    LevelRow("family", "transposed", 0.01, 1.3e-5),
    LevelRow("family", "differs", 0.021, 0.99),
    LevelRow("given", "same", 0.89, 0.0085),
    LevelRow("given", "form", 0.042, 0.013),
    LevelRow("given", "close", 0.046, 0.0022),
    LevelRow("given", "similar", 0.002, 0.0015),
    LevelRow("given", "transposed", 1.0, 1.0),
    LevelRow("given", "differs", 0.01, 0.98),
    LevelRow("birth", "same", 0.96, 4.3e-5),
    LevelRow("birth", "partial", 0.0058, 7.8e-5),
    LevelRow("birth", "swapped", 0.0033, 2.3e-5),
    LevelRow("birth", "slip", 0.013, 0.0012),
    LevelRow("birth", "near", 0.013, 0.0033),
    LevelRow("birth", "differs", 0.0058, 1),
    LevelRow("sex", "same", 0.99, 0.5),
    LevelRow("sex", "differs", 0.0051, 0.5),
    LevelRow("phone", "same", 0.83, 3.6e-5),
    LevelRow("phone", "slip", 0.016, 3e-6),
    LevelRow("phone", "differs", 0.15, 1),
    LevelRow("email", "same", 0.84, 4e-6),
    LevelRow("email", "differs", 0.16, 1),
    LevelRow("street", "same", 0.83, 8.2e-5),
    LevelRow("street", "close", 0.04, 3e-6),
    LevelRow("street", "other-number", 0.027, 0.0058),
    LevelRow("street", "differs", 0.1, 0.99),
    LevelRow("place", "same", 0.87, 0.025),
    LevelRow("place", "close", 0.06, 0.33),
    LevelRow("place", "differs", 0.065, 0.64),
    LevelRow("generation", "same", 0.99, 0.8),
    LevelRow("generation", "differs", 0.01, 0.2),
    LevelRow("life", "same", 1.0, 1.0),
    LevelRow("life", "differs", 0.01, 0.1),
)

DEFAULT_MODEL: Final = Model(DEFAULT_ROWS, MATCH_ODDS, REVIEW_ODDS)
