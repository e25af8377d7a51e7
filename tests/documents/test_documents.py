"""Documents that can rot are compared with what they describe."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from suite.documents import differences, documents

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(((?!https?:)[^)#]+)(#[^)]*)?\)")


@pytest.fixture(scope="module")
def openapi_paths() -> set[str]:
    import json

    return set(json.loads(documents()["openapi.json"])["paths"])


def test_generated_documents_are_what_their_rows_say() -> None:
    assert list(differences()) == [], "run `make docs`"


@pytest.mark.parametrize(
    "document", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda path: path.name
)
def test_links_lead_somewhere(document: Path) -> None:
    broken = [link for link, _ in LINK.findall(document.read_text()) if not (document.parent / link).exists()]
    assert broken == []


def test_the_guide_map_names_real_endpoints_and_tests(openapi_paths: set[str]) -> None:
    text = (ROOT / "docs" / "guide-map.md").read_text()
    for row in (line for line in text.splitlines() if line.startswith("| ") and "not yet" not in line):
        for test in re.findall(r"`((?:tests|services)/[^`]+)`", row):
            assert (ROOT / test).exists(), row
        for path in re.findall(r"`(?:[A-Z, ]+ )?(/[a-z0-9]+/v1/[^`]*)`", row):
            assert any(known.startswith(path.replace("{id}", "{")[:20]) for known in openapi_paths), row


def test_every_make_command_of_the_readme_exists() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", readme))
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    assert named - {"and"} <= targets


def test_the_changelog_has_a_place_for_what_comes() -> None:
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()
