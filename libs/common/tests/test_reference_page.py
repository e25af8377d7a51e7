"""The documentation page: whole, self-contained, safe with any text, readable by everybody."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from common.models.access import Access, Role
from common.models.errors import ERRORS
from common.runtime.reference_page import CONTENT_SECURITY_POLICY, reference_page

ROOT = Path(__file__).resolve().parents[3]
OPENAPI: dict[str, Any] = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements with their attributes and texts; notes what is not well formed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.mistakes: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.mistakes.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    access = {("GET", "/auth/v1/me"): Access("GET", "/me", frozenset({Role.VIEWER, Role.AUDITOR}))}
    return reference_page(OPENAPI, access | {("GET", "/livez"): Access("GET", "/livez", frozenset(), "a probe")})


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_it_is_well_formed_and_every_operation_is_there_under_its_title(page: Page) -> None:
    assert (page.mistakes, page.open) == ([], [])
    operations = [operation for item in OPENAPI["paths"].values() for operation in item.values()]
    assert len(page.all("details")) == len(operations) > 100
    titles = " ".join(page.texts["h4"])
    for operation in operations:
        assert operation["summary"] in titles
    for words in ("Test Connection", "Refresh Token", "Message Tracer", "Connection Tester", "Integration Simulator"):
        assert words in titles, "the guide's own name"


def test_every_link_and_label_leads_to_one_element(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"][1:] for attributes in page.all("a") if attributes["href"].startswith("#")]
    targets += [attributes["for"] for attributes in page.all("label")]
    assert set(targets) <= set(ids)
    assert {code.replace(".", "") for code in ERRORS} <= set(ids)


def test_a_service_is_one_section_and_the_process_comes_last(page: Page) -> None:
    *services, process, errors = page.texts["h2"]
    assert sorted(services) == ["alerts", "auth-gateway", "diagnostics", "hl7-gateway", "simulator", "sync"]
    assert (process, errors) == ("process", "Errors")


def test_it_says_who_may_call_and_what_a_body_holds(html: str) -> None:
    assert "<dd>auditor, viewer</dd>" in html
    assert "<dd>no token needed: a probe</dd>" in html
    assert "<code>identifier_systems[].assigning_authority</code>" in html
    assert "<td>body, required</td>" in html
    assert re.search(r"epic \| [^<]*hl7v2", html), "the words a field may hold"


def test_nothing_is_loaded_from_elsewhere(page: Page, html: str) -> None:
    assert all(not attributes.get("src") for _, attributes in page.elements)
    assert [row["href"] for row in page.all("link")] == ["data:,"]
    assert not re.findall(r"url\(|@import|https?://", "".join(page.texts["style"] + page.texts["script"]))
    assert {row["href"] for row in page.all("a") if not row["href"].startswith("#")} == {"/openapi.json"}


def test_only_its_own_script_and_style_may_run(page: Page) -> None:
    for kind in ("script", "style"):
        (text,) = page.texts[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in CONTENT_SECURITY_POLICY
    assert "default-src 'none'" in CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not [row for _, row in page.elements if any(name == "style" or name.startswith("on") for name in row)]


def test_hostile_texts_stay_texts() -> None:
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>&'
    operation = {
        "summary": evil,
        "description": evil,
        "tags": [evil],
        "parameters": [{"name": evil, "in": evil, "description": evil, "schema": {"enum": [evil]}}],
        "requestBody": {"content": {"x": {"schema": {"properties": {evil: {"const": evil}}, "required": [evil]}}}},
        "responses": {evil: {}},
    }
    openapi = {"info": {"title": evil}, "paths": {f"/{evil}": {"get": operation}}}
    reason = {("GET", f"/{evil}"): Access("GET", "/x", frozenset(), evil)}
    page = Page(reference_page(openapi, reason))
    assert page.mistakes == []
    assert len(page.all("script")) == 1
    assert page.all("img") == []


def test_a_schema_that_holds_itself_ends() -> None:
    node = {"properties": {"child": {"$ref": "#/components/schemas/Node"}, "all": {"type": "array", "items": {}}}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Node"}}}}
    openapi = {
        "info": {"title": "t"},
        "paths": {"/x": {"post": {"requestBody": body, "responses": {}}}},
        "components": {"schemas": {"Node": node}},
    }
    html = reference_page(openapi, {})
    assert "<code>child.child.child</code>" in html
    assert "child.child.child.child" not in html


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    digits = colour.lstrip("#")
    digits = "".join(2 * digit for digit in digits) if len(digits) == 3 else digits
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_texts_can_be_read_in_both_themes(page: Page, theme: int) -> None:
    style = page.texts["style"][0]
    colours = [dict(re.findall(r"--(\w+):(#\w+)", block)) for block in re.findall(r":root\{([^}]*)\}", style)][theme]
    for ink in ("ink", "soft", "link", "read", "make", "change", "remove"):
        for paper in ("paper", "tint"):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[paper])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {paper}"  # WCAG 2.2, 1.4.3 (AA)
