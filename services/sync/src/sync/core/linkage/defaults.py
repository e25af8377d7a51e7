"""The model that is used unless an integration has its own.

m and u are counted on `synthetic.people` and what `synthetic.changed` makes of them (20,000 persons and 200,000 pairs
drawn at random, two digits kept); no other data had a part in it. What so few pairs cannot show is set by judgement:
`transposed` counts once, in the family name; `similar` names, a suffix and two slips in an identifier are weak
evidence. The thresholds follow from the prior of a practice of 50,000 patients, in which one pair of 50,000 is one
person (log2 is 15.6 bits): review begins at even odds or a little below, a match at about 500 to 1.
"""

from __future__ import annotations

from typing import Final

from sync.core.linkage.model import LevelRow, Model

MATCH_BITS: Final = 24.5
REVIEW_BITS: Final = 12.0

DEFAULT_ROWS: Final = (
    LevelRow("identifier", "same", 0.97, 6e-6),
    LevelRow("identifier", "slip", 0.03, 6e-6),
    LevelRow("identifier", "differs", 0.001, 0.0001),
    LevelRow("identifier", "other-person", 6.3e-5, 1),
    LevelRow("identifier", "proves", 6.3e-5, 6e-6),
    LevelRow("identifier", "contradicts", 1.0, 1.0),
    LevelRow("family", "same", 0.9, 0.0042),
    LevelRow("family", "form", 0.019, 0.001),
    LevelRow("family", "close", 0.046, 0.0015),
    LevelRow("family", "similar", 0.002, 0.0011),
    LevelRow("family", "transposed", 0.0098, 3e-6),
    LevelRow("family", "differs", 0.021, 0.99),
    LevelRow("given", "same", 0.9, 0.0085),
    LevelRow("given", "form", 0.042, 0.013),
    LevelRow("given", "close", 0.048, 0.0021),
    LevelRow("given", "similar", 0.002, 0.0015),
    LevelRow("given", "transposed", 1.0, 1.0),
    LevelRow("given", "differs", 0.0011, 0.98),
    LevelRow("birth", "same", 0.97, 5.3e-5),
    LevelRow("birth", "partial", 0.0041, 6.8e-5),
    LevelRow("birth", "swapped", 0.0041, 8e-6),
    LevelRow("birth", "slip", 0.011, 0.0012),
    LevelRow("birth", "near", 0.013, 0.0033),
    LevelRow("birth", "differs", 0.0018, 1),
    LevelRow("sex", "same", 1, 0.5),
    LevelRow("sex", "differs", 0.0047, 0.5),
    LevelRow("phone", "same", 0.83, 4.2e-5),
    LevelRow("phone", "slip", 0.017, 3e-6),
    LevelRow("phone", "differs", 0.15, 1),
    LevelRow("email", "same", 0.85, 4e-6),
    LevelRow("email", "differs", 0.15, 1),
    LevelRow("street", "same", 0.83, 7.1e-5),
    LevelRow("street", "close", 0.04, 8e-6),
    LevelRow("street", "other-number", 0.028, 0.0056),
    LevelRow("street", "differs", 0.1, 0.99),
    LevelRow("place", "same", 0.88, 0.025),
    LevelRow("place", "close", 0.061, 0.33),
    LevelRow("place", "differs", 0.063, 0.64),
    LevelRow("generation", "same", 0.99, 0.8),
    LevelRow("generation", "differs", 0.01, 0.2),
    LevelRow("life", "same", 1.0, 1.0),
    LevelRow("life", "differs", 0.01, 0.1),
)

DEFAULT_MODEL: Final = Model(DEFAULT_ROWS, MATCH_BITS, REVIEW_BITS)
