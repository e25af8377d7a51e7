"""docs/systems/{epic,cerner,allscripts,fhir}.md: what the suite knows of each system, from the rows of `libs/pms`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common.models.errors import ERRORS
from common.models.integration import Vendor
from pms import ccl, cerner, epic, unity
from pms.authentication import methods_of
from pms.capabilities import HABITS, Habit, ResourceCapability, resources_of
from pms.permissions import WORDINGS
from pms.quirks import quirks_of
from pms.signatures import ROWS, SignatureRow, Surface
from pms.smart_launch import CONTEXTS, POWERCHART_MESSAGES
from pms.source import Source
from pms.unity_dictionary import COLUMNS

_TITLES: Final = {
    Vendor.EPIC: ("epic", "Epic"),
    Vendor.CERNER: ("cerner", "Oracle Health (Cerner) Millennium"),
    Vendor.UNITY: ("allscripts", "Allscripts / Veradigm: Unity (TouchWorks, Professional, PM)"),
    Vendor.FHIR: ("fhir", "Any FHIR R4 server"),
}
_OPENING: Final = """\
What the suite knows of this system: how to get in, what can be read and written, what its failures mean and what to do
next. Generated from the rows of `libs/pms` (`python -m suite.documents`); the diagnosis reads the same rows.

Each fact says how well it is founded: {sources}.
What is marked **assumed** has no public source: a finding that leans on it may be wrong at your site.
"""


def system_documents() -> dict[str, str]:
    """File name in docs/ → its text."""
    return {f"systems/{name}.md": system_markdown(vendor) for vendor, (name, _) in _TITLES.items()}


def system_markdown(vendor: Vendor) -> str:
    """One system's page."""
    sources = ", ".join(source.value for source in Source)
    parts = [
        f"# {_TITLES[vendor][1]}\n\n{_OPENING.format(sources=sources)}",
        _ways_in(vendor),
        _resources(vendor),
        _vendor_part(vendor),
        _launch() if vendor is not Vendor.UNITY else "",
        _permissions(vendor),
        _habits(vendor),
        _quirks(vendor),
        _failures(vendor),
    ]
    return "\n".join(part for part in parts if part)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") or "–" for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _source(source: Source) -> str:
    return "**assumed**" if source is Source.ASSUMED else source.value


def _ways_in(vendor: Vendor) -> str:
    rows = [
        (f"`{row.method}`", row.grant, f"{row.token_life_s} s" if row.token_life_s else "as answered", row.note,
         _source(row.source))
        for row in methods_of(vendor)
    ]  # fmt: skip
    return "## Ways in\n\n" + _table(("method", "grant", "token lives", "to know", "source"), rows)


def _resources(vendor: Vendor) -> str:
    head = ("resource", "interactions", "changes are found by", "a search needs", "page", "to know", "source")
    return "## Resources\n\n" + _table(head, [_resource(row) for row in resources_of(vendor)])


def _resource(row: ResourceCapability) -> tuple[str, ...]:
    interactions = ", ".join(sorted(row.interactions))
    cursor = row.cursor.value + (f" ({row.reached_from})" if row.reached_from else "")
    search = " or ".join(" + ".join(sorted(wanted)) for wanted in row.search_any_of) or "anything"
    page = f"{row.page_records_default}, at most {row.page_records_max}"
    note = row.note + (f" Only {', '.join(sorted(row.products))}." if row.products else "")
    source = row.source.value + (f"; **assumed**: {', '.join(sorted(row.assumed))}" if row.assumed else "")
    return row.resource, interactions, cursor, search, page, note, source


def _launch() -> str:
    rows = [(f"`{row.name}`", f"`{row.scope}`", row.absent, _source(row.source)) for row in CONTEXTS]
    return (
        "## SMART launch\n\n`/auth/v1/launch` records launches and says what their parameters lack; `POST"
        " /auth/v1/launches:check` takes the token response. An EHR launch asks for `launch`, a standalone one for the"
        " scope named; granted and still missing means:\n\n"
        + _table(("context", "standalone scope", "missing although granted", "source"), rows)
    )


def _permissions(vendor: Vendor) -> str:
    row = WORDINGS[vendor]
    return (
        f"## Asking for permissions\n\nAsk the {row.administrator}: {row.where}. {row.closing} The request is"
        " written out by `POST /auth/v1/integrations/{id}/permissions:check`.\n"
    )


def _habits(vendor: Vendor) -> str:
    rows: list[Habit] = [row for row in HABITS if row.vendor is vendor]
    cells = [(row.name, _value(row.value), _source(row.source)) for row in rows]
    return "## Limits and habits\n\n" + _table(("habit", "value", "source"), cells)


def _value(value: str | int | bool) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _quirks(vendor: Vendor) -> str:
    rows = [(f"`{row.name}`", row.what, row.handling, _source(row.source)) for row in quirks_of(vendor)]
    return "## Quirks\n\n" + _table(("quirk", "what happens", "what the suite does", "source"), rows)


def _failures(vendor: Vendor) -> str:
    """Only the rows that can be met at this vendor: its own and the general ones of its surfaces."""
    surfaces = {Surface.TOKEN, Surface.RESOURCE} | ({Surface.UNITY} if vendor is Vendor.UNITY else set())
    met = [row for row in ROWS if row.surface in surfaces and row.vendor in {None, vendor}]
    unique = list({(row.surface, row.code): row for row in met}.values())
    head = ("signature", "where", "error", "next step", "retry", "source")
    return (
        "## Failures\n\nTried in this order; the first that fits is taken. The error leads to the"
        " [catalogue](../errors.md).\n\n" + _table(head, [_failure(row) for row in unique])
    )


def _failure(row: SignatureRow) -> tuple[str, ...]:
    anchor = row.error.replace(".", "")
    code = f"`{row.code}`" + (" (several causes)" if row.ambiguous else "")
    error = f"[`{row.error}`](../errors.md#{anchor})"
    step = _NEXT_STEPS.get(row.code) or ERRORS[row.error].next_step
    return code, row.surface.value, error, step, row.retry.value, _source(row.source)


_NEXT_STEPS: Final = {
    **{f"cerner.{row.name}": row.next_step for row in (*cerner.TOKEN_URNS, *cerner.LAUNCH_URNS)},
    **{f"cerner.{row.name}": row.next_step for row in cerner.PATCH_REFUSALS},
    **{f"unity.{row.name}": row.next_step for row in unity.ALL_ERRORS},
}


def _vendor_part(vendor: Vendor) -> str:
    parts = {Vendor.EPIC: _epic, Vendor.CERNER: _cerner, Vendor.UNITY: _unity}
    return parts[vendor]() if vendor in parts else ""


def _epic() -> str:
    rows = [
        (row.code, f"`epic.{row.name}`", row.meaning, "yes" if row.refuses else "no, a remark", row.retry.value,
         _source(row.source))
        for row in epic.CODES.values()
    ]  # fmt: skip
    return "## Codes in an OperationOutcome\n\n" + _table(
        ("code", "name", "meaning", "refuses", "retry", "source"), rows
    )


def _cerner() -> str:
    def urns(rows: Iterable[cerner.Urn]) -> str:
        head = ("name", "error", "URN ends in", "meaning", "next step", "causes", "source")
        return _table(
            head,
            [
                (f"`{row.name}`", row.oauth_error, ", ".join(f"`{one}`" for one in row.suffixes), row.meaning,
                 row.next_step, ", ".join(row.faults), _source(row.source))
                for row in rows
            ],
        )  # fmt: skip

    refusals = _table(
        ("HTTP", "name", "meaning", "next step"),
        [(str(row.status), f"`{row.name}`", row.meaning, row.next_step) for row in cerner.PATCH_REFUSALS],
    )
    messages = _table(
        ("words", "why", "next step", "source"),
        [
            (", ".join(f"`{word}`" for word in row.words), row.why, row.next_step, _source(row.source))
            for row in POWERCHART_MESSAGES
        ],
    )
    numbers = _table(
        ("number", "meaning", "next step", "source"),
        [(str(row.number), row.meaning, row.next_step, _source(row.source)) for row in ccl.NUMBERS.values()],
    )
    unchecked = "\n".join(f"- {what}" for what in ccl.NOT_CHECKED)
    return (
        "## Why a token is refused\n\nThe cause stands in `error_uri` only; `Cerner-Correlation-ID` is what Oracle"
        f" Health's support asks for.\n\n{urns(cerner.TOKEN_URNS)}\n## Why a launch is refused\n\n"
        f"{urns(cerner.LAUNCH_URNS)}\n## What PowerChart shows instead of the app\n\n{messages}"
        f"\n## CCL\n\n`POST /auth/v1/vendors/cerner/ccl:check` reads messages, scripts and an MPage's answer, which"
        f" is a success only when `STATUS_DATA.STATUS` is S.\n\n{numbers}\nNot checked in a script:\n\n{unchecked}\n"
        f"\n## Why a change of an appointment is refused\n\n{refusals}"
    )


def _unity() -> str:
    actions = _table(
        ("action", "products", "purpose", "parameters", "source"),
        [
            (f"`{row.name}`", ", ".join(sorted(row.products)), row.purpose,
             "; ".join(f"{number}: {what}" for number, what in row.parameters.items()),
             row.source.value + (f"; **assumed**: {row.assumed}" if row.assumed else ""))
            for row in unity.ACTIONS.values()
        ],
    )  # fmt: skip
    errors = _table(
        ("name", "words", "meaning", "next step", "causes", "source"),
        [
            (f"`{row.name}`", ", ".join(f"`{word}`" for word in row.words), row.meaning, row.next_step,
             ", ".join(row.faults), _source(row.source))
            for row in unity.ALL_ERRORS
        ],
    )  # fmt: skip
    products = _table(
        ("product", "words in `System`", "source"),
        [(row.product.value, ", ".join(row.words), _source(row.source)) for row in unity.PRODUCTS],
    )
    columns = _table(
        ("column", "names", "source"),
        [(row.meaning, ", ".join(f"`{name}`" for name in row.names), _source(row.source)) for row in COLUMNS],
    )
    statuses = _table(("code", "status"), list(unity.STATUSES.items()))
    return (
        f"## Products\n\n{products}\n## Actions\n\n{actions}\n## Statuses of an appointment (PM)\n\n{statuses}\n"
        f"## Dictionaries\n\n`POST /auth/v1/vendors/unity/dictionaries:compare` compares a dictionary with what maps"
        f" use. Columns are found by these names, whatever their case:\n\n{columns}\n"
        f"## Errors under HTTP 200\n\n{errors}"
    )
