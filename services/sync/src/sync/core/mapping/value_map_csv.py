"""Value maps as CSV: header `source_system,source_code,display,target_code`, in any order; findings by line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

from rapidfuzz import fuzz, process

from sync.core.mapping.row import MappingFinding
from sync.core.mapping.value_map import ValueMapRow

COLUMNS: Final = ("source_system", "source_code", "display", "target_code")
CSV_BYTES_MAX: Final = 5_000_000
CSV_ROWS_MAX: Final = 50_000
_CELL_CHARACTERS_MAX: Final = 400
_SCORE_MIN: Final = 60.0


def read_value_map(text: str) -> tuple[tuple[ValueMapRow, ...], tuple[MappingFinding, ...]]:
    """Rows and findings (`row` is the line of the file); a line with a mistake is not among the rows. Never raises."""
    if len(text.encode("utf-8", "replace")) > CSV_BYTES_MAX:
        return (), (MappingFinding(0, "file", "value-map.too-large", f"a file has at most {CSV_BYTES_MAX} bytes"),)
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    rows: list[ValueMapRow] = []
    found: list[MappingFinding] = []
    seen: dict[tuple[str, str], int] = {}
    try:
        header = [cell.strip().casefold() for cell in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            return (), (MappingFinding(1, "header", "value-map.header", f"expected the columns {', '.join(COLUMNS)}"),)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) >= CSV_ROWS_MAX:
                found.append(MappingFinding(reader.line_num, "file", "value-map.too-many-rows", f"{CSV_ROWS_MAX} rows"))
                break
            row = _row(header, cells, reader.line_num, seen)
            if isinstance(row, ValueMapRow):
                rows.append(row)
            else:
                found.append(row)
    except csv.Error:
        found.append(MappingFinding(reader.line_num, "file", "value-map.not-csv", "from here on it is no CSV"))
    return tuple(rows), tuple(found)


def _row(
    header: Sequence[str], cells: Sequence[str], line: int, seen: dict[tuple[str, str], int]
) -> ValueMapRow | MappingFinding:
    if len(cells) != len(header):
        return MappingFinding(line, "line", "value-map.cells", f"{len(cells)} cells, expected {len(header)}")
    values = dict(zip(header, (cell.strip() for cell in cells), strict=True))
    for name, value in values.items():
        if len(value) > _CELL_CHARACTERS_MAX:
            return MappingFinding(line, name, "value-map.too-long", f"at most {_CELL_CHARACTERS_MAX} characters")
    for name in ("source_code", "target_code"):
        if not values[name]:
            return MappingFinding(line, name, "value-map.empty", f"{name} is empty")
    key = (values["source_system"], values["source_code"].casefold())
    if key in seen:
        return MappingFinding(line, "source_code", "value-map.twice", f"line {seen[key]} has the same code")
    seen[key] = line
    return ValueMapRow(**values)


def write_value_map(rows: Iterable[ValueMapRow]) -> str:
    """The CSV of rows, which `read_value_map` reads back as they are."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in rows)
    return file.getvalue()


def suggestions(display: str, targets: Sequence[tuple[str, str]], limit: int = 3) -> list[tuple[str, float]]:
    """Target codes whose display is most like that of an unmapped value, with a score of 60 to 100, best first.

    `targets` are (code, display). A suggestion is for a person to accept; nothing is mapped by it.
    """
    displays = [text for _, text in targets]
    best = process.extract(
        display, displays, scorer=fuzz.token_sort_ratio, processor=str.casefold, limit=limit, score_cutoff=_SCORE_MIN
    )
    return [(targets[place][0], round(score, 1)) for _, score, place in best]
