"""The API documentation as one plain page: no script, nothing loaded from elsewhere, readable offline."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any, Final

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 "
    "1rem;color:#1c2733;background:#fff}"
    "h2{margin:2.2rem 0 .4rem;border-bottom:1px solid #d5dde5}details{border-bottom:1px solid #eef2f5;padding:.35rem 0}"
    "summary{cursor:pointer}code{font:13px "
    "ui-monospace,monospace}.m{display:inline-block;width:4.2rem;font-weight:600;color:#0b5d8a}"
    "table{border-collapse:collapse;margin:.4rem 0 .6rem 4.4rem}td{padding:.15rem .9rem .15rem 0;vertical-align:top}"
    "p{margin:.3rem 0 .3rem 4.4rem}nav a{margin-right:1rem}"
)
_METHODS: Final = ("get", "post", "put", "patch", "delete")


def reference_page(openapi: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document: operations by tag, with parameters, body fields and answers."""
    by_tag: dict[str, list[str]] = {}
    schemas = openapi.get("components", {}).get("schemas", {})
    for path, item in openapi["paths"].items():
        for method in _METHODS:
            if method in item:
                operation = item[method]
                tag = (operation.get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append(_operation(method, path, operation, schemas))
    links = "".join(f'<a href="#{escape(tag)}">{escape(tag)}</a>' for tag in by_tag)
    sections = "".join(f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(rows)}' for tag, rows in by_tag.items())
    title = escape(str(openapi["info"]["title"]))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f'<p style="margin-left:0">Machine-readable: <a href="/openapi.json">openapi.json</a>. Every call needs '
        f"<code>Authorization: Bearer …</code> unless it says otherwise; failures are "
        f"<code>application/problem+json</code> "
        f"with a <code>code</code> and a <code>next_step</code>.</p><nav>{links}</nav>{sections}</html>"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{escape(parameter.get('description') or _kind(parameter.get('schema', {})))}</td></tr>"
        for parameter in operation.get("parameters", ())
    ]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        schema = content.get("schema", {})
        resolved = schemas.get(str(schema.get("$ref", "")).rsplit("/", 1)[-1], schema)
        required = set(resolved.get("required", ()))
        rows += [
            f"<tr><td><code>{escape(name)}</code></td><td>body{' · required' if name in required else ''}</td>"
            f"<td>{escape(field.get('description') or _kind(field))}</td></tr>"
            for name, field in resolved.get("properties", {}).items()
        ]
    answers = ", ".join(code for code in operation.get("responses", {}) if code != "422")
    text = escape(operation.get("description") or "")
    paragraph = f"<p>{text}</p>" if text else ""
    table = f"<table>{''.join(rows)}</table>" if rows else ""
    return (
        f'<details><summary><span class="m">{method.upper()}</span><code>{escape(path)}</code> — '
        f"{escape(operation.get('summary', ''))}</summary>{paragraph}{table}"
        f"<p>Answers: {escape(answers)}</p></details>"
    )


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(_kind(part) for part in schema["anyOf"])
    return str(schema.get("type") or str(schema.get("$ref", "")).rsplit("/", 1)[-1])
