"""The API documentation as one page: nothing is loaded from elsewhere, so it is readable offline; searchable.

The script only filters what is there already: without it everything can be read. The page's own style and script are
the only ones allowed, by their hashes (Content Security Policy Level 3, §2.3.1).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

from common.models.access import Access
from common.models.errors import ERRORS

_METHODS: Final = ("get", "post", "put", "patch", "delete")
_FIELD_DEPTH_MAX: Final = 3
_CHASSIS: Final = ("/stream", "/stream-tickets", "/audit:search", "/audit/export", "/dead-letters")
_CHASSIS_TITLE: Final = "Events, audit log, dead letters"
_PROCESS: Final = "process"
_CODE_WORDS: Final = re.compile("`([^`]+)`")
_BETWEEN_WORDS: Final = re.compile(r"[^a-z0-9]+")
_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#51606f;--line:#d5dde5;--paper:#fff;--tint:#f4f7f9;--link:#0b5d8a;
--read:#0b5d8a;--make:#23692f;--change:#8a4b00;--remove:#a3231f}
@media (prefers-color-scheme:dark){:root{--ink:#e3e9ee;--soft:#a5b2be;--line:#35414c;--paper:#12181d;--tint:#1b232a;
--link:#7cc4ee;--read:#7cc4ee;--make:#84cf90;--change:#eab26a;--remove:#f39b96}}
*{box-sizing:border-box}
html{scroll-padding-top:5.5rem}
body{margin:0;font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);overflow-wrap:anywhere}
a{color:var(--link)}
:focus-visible{outline:3px solid var(--link);outline-offset:2px;border-radius:2px}
.skip{position:absolute;left:-99rem}
.skip:focus{left:1rem;top:.5rem;background:var(--paper);padding:.4rem .8rem;z-index:2}
header,.page{max-width:76rem;margin:0 auto;padding:0 1.25rem}
h1{font-size:1.8rem;line-height:1.2;margin:1.6rem 0 .4rem}
h2{font-size:1.35rem;margin:2.2rem 0 .2rem}
h3{font-size:1rem;color:var(--soft);margin:1.2rem 0 .3rem}
h4{font-size:1rem;margin:0}
p{margin:.4rem 0;max-width:46rem}
code{font:.86em/1.45 ui-monospace,monospace}
.find{position:sticky;top:0;z-index:1;background:var(--paper);border-bottom:1px solid var(--line)}
.find div{max-width:76rem;margin:0 auto;padding:.6rem 1.25rem;display:flex;flex-wrap:wrap;gap:.6rem;align-items:center}
.find input{flex:1 1 14rem;font:inherit;padding:.4rem .6rem;border:1px solid var(--soft);border-radius:6px;
color:inherit;background:var(--paper)}
.find button{font:inherit;padding:.35rem .7rem;border:1px solid var(--line);border-radius:6px;color:inherit;
background:var(--tint);cursor:pointer}
output{color:var(--soft)}
.page{display:grid;grid-template-columns:13rem minmax(0,1fr);gap:2rem;padding-bottom:4rem}
nav ul{list-style:none;margin:0;padding:0}
nav>ul{position:sticky;top:4.5rem;margin-top:2.2rem;max-height:calc(100vh - 6rem);overflow:auto}
nav li li{margin-left:.8rem;font-size:.9rem}
nav a{display:block;padding:.15rem .3rem;text-decoration:none}
nav a:hover{text-decoration:underline}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0}
details[open]{background:var(--tint)}
summary{cursor:pointer;padding:.55rem .8rem;display:grid;grid-template-columns:1fr;gap:.1rem}
summary::-webkit-details-marker{display:none}
h4::before{content:"\\25b8\\2002" / "";color:var(--soft)}
details[open] h4::before{content:"\\25be\\2002" / ""}
summary:hover h4{text-decoration:underline}
.inside{padding:0 .8rem .7rem}
.m{display:inline-block;min-width:4.2em;font-weight:700;color:var(--read)}
.post{color:var(--make)}.put,.patch{color:var(--change)}.delete{color:var(--remove)}
dl{margin:.5rem 0;display:grid;grid-template-columns:6.5rem minmax(0,1fr);gap:.15rem .8rem}
dt{color:var(--soft)}dd{margin:0}
table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.94rem}
th,td{text-align:left;vertical-align:top;padding:.25rem .9rem .25rem 0;border-top:1px solid var(--line)}
th{color:var(--soft);font-weight:600;border-top:0}
td:first-child{width:28%}td:nth-child(2){width:18%}
[hidden]{display:none!important}
@media (max-width:52rem){html{scroll-padding-top:8rem}
.page{grid-template-columns:minmax(0,1fr);gap:0}nav>ul{position:static;max-height:none;
display:flex;flex-wrap:wrap;gap:0 .6rem;margin-top:1rem}nav li ul{display:none}dl{grid-template-columns:minmax(0,1fr)}
dd{margin-bottom:.3rem}thead{position:absolute;left:-99rem}tr,td,td:first-child,td:nth-child(2){display:block;width:auto}
td{border:0;padding:0}tr{border-top:1px solid var(--line);padding:.4rem 0}}
@media print{.find,nav,.skip{display:none}.page{display:block}}
"""
_SCRIPT: Final = """
(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const search = document.getElementById('q'), found = document.getElementById('found');
  const rows = all('[data-row]').map(row => [row, row.textContent.toLowerCase()]);
  const filter = () => {
    const words = search.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let count = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every(word => text.includes(word));
      count += row.hidden ? 0 : 1;
    }
    for (const part of all('section')) part.hidden = !part.querySelector('[data-row]:not([hidden])');
    for (const link of all('nav a')) link.parentElement.hidden = document.getElementById(link.hash.slice(1)).hidden;
    found.textContent = words.length ? `${count} of ${rows.length}` : '';
    const url = new URL(location);
    words.length ? url.searchParams.set('q', search.value) : url.searchParams.delete('q');
    history.replaceState(null, '', url);
  };
  const open = state => all('details').forEach(row => { if (!row.hidden) row.open = state; });
  const show = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (row?.tagName === 'DETAILS') { row.open = true; row.scrollIntoView(); }
  };
  search.addEventListener('input', filter);
  document.getElementById('open').addEventListener('click', () => open(true));
  document.getElementById('close').addEventListener('click', () => open(false));
  document.addEventListener('keydown', event => {
    if (event.key === '/' && document.activeElement !== search) { event.preventDefault(); search.focus(); }
    if (event.key === 'Escape' && document.activeElement === search) { search.value = ''; filter(); }
  });
  addEventListener('hashchange', show);
  document.querySelector('.find').hidden = false;
  search.value = new URLSearchParams(location.search).get('q') ?? '';
  filter();
  show();
})();
"""


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_SECURITY_POLICY: Final = (
    f"default-src 'none'; style-src {_source_hash(_STYLE)}; script-src {_source_hash(_SCRIPT)}; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def reference_page(openapi: Mapping[str, Any], access: Mapping[tuple[str, str], Access]) -> str:
    """HTML of an OpenAPI document: operations by service, with who may call them (rows by method and path), fields and
    answers; then the error catalogue."""
    groups = _groups(openapi, access)
    title = escape(str(openapi["info"]["title"]))
    links = "".join(_navigation(name, list(parts)) for name, parts in groups.items())
    sections = "".join(_section(name, parts) for name, parts in groups.items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}: API</title>'
        f'<link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>'
        f'<a class="skip" href="#operations">Skip to the operations</a><header><h1>{title}</h1>'
        f'<p>The HTTP API. For programs: <a href="/openapi.json">openapi.json</a>. A call sends '
        f"<code>Authorization: Bearer …</code> with a token of one of the roles named, unless it says that no token is "
        f"needed. Failures are <code>application/problem+json</code> with a <code>code</code>, whose "
        f"<code>fault</code> it is, and the <code>next_step</code>.</p></header>"
        f'<div class="find" role="search" hidden><div><label for="q">Search</label>'
        f'<input id="q" type="search" autocomplete="off" placeholder="title, path, field, role or error code  ( / )">'
        f'<output id="found" for="q"></output><button type="button" id="open">Open all</button>'
        f'<button type="button" id="close">Close all</button></div></div>'
        f'<div class="page"><nav aria-label="Contents"><ul>{links}<li><a href="#errors">Errors</a></li></ul></nav>'
        f'<main id="operations" tabindex="-1">{sections}{_errors()}</main></div>'
        f"<script>{_SCRIPT}</script></body></html>"
    )


def _groups(openapi: Mapping[str, Any], access: Mapping[tuple[str, str], Access]) -> dict[str, dict[str, list[str]]]:
    """service → title of a part → operations, in the document's order; the process's own routes come last."""
    schemas = openapi.get("components", {}).get("schemas", {})
    found: dict[str, dict[str, list[str]]] = {}
    process: list[str] = []
    # Routes of one prefix belong together, whatever their tags say: the service's name is the tag of its stream.
    services = {
        path.split("/")[1]: str(operation["tags"][0])
        for path, _, operation in _operations(openapi)
        if path.endswith("/v1/stream")
    }
    for path, method, operation in _operations(openapi):
        tag = str((operation.get("tags") or ["other"])[0])
        shown = _operation(method, path, operation, schemas, access.get((method.upper(), path)))
        if tag == _PROCESS:
            process.append(shown)
            continue
        service, _, part = tag.partition(": ")
        service = services.get(path.split("/")[1], service)
        chassis = any(f"/v1{start}" in path for start in _CHASSIS)
        name = _CHASSIS_TITLE if chassis else (part[:1].upper() + part[1:]) or "Operations"
        found.setdefault(service, {}).setdefault(name, []).append(shown)
    for parts in found.values():
        if _CHASSIS_TITLE in parts:
            parts[_CHASSIS_TITLE] = parts.pop(_CHASSIS_TITLE)
    if process:
        found[_PROCESS] = {"Probes, metrics, documentation": process}
    return found


def _operations(openapi: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, item in openapi["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _anchor(*words: str) -> str:
    return _BETWEEN_WORDS.sub("-", "-".join(words).lower()).strip("-")


def _navigation(service: str, parts: Iterable[str]) -> str:
    inner = "".join(f'<li><a href="#{_anchor(service, part)}">{escape(part)}</a></li>' for part in parts)
    return f'<li><a href="#{_anchor(service)}">{escape(service)}</a><ul>{inner}</ul></li>'


def _section(service: str, parts: Mapping[str, Iterable[str]]) -> str:
    inner = "".join(
        f'<section id="{_anchor(service, part)}"><h3>{escape(part)}</h3>{"".join(rows)}</section>'
        for part, rows in parts.items()
    )
    return f'<section id="{_anchor(service)}"><h2>{escape(service)}</h2>{inner}</section>'


def _operation(
    method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any], row: Access | None
) -> str:
    title = escape(str(operation.get("summary") or path))
    text = _CODE_WORDS.sub(r"<code>\1</code>", escape(str(operation.get("description") or "")))
    identity = _anchor(method, path.strip("/"))
    answers = ", ".join(f"<code>{escape(code)}</code>" for code in operation.get("responses", {}) if code != "422")
    facts = f"<dt>Answers</dt><dd>{answers}</dd>"
    if row is not None:
        who = ", ".join(sorted(row.roles)) or f"no token needed: {row.reason}"
        facts = f"<dt>Who may</dt><dd>{escape(who)}</dd>{facts}"
    paragraphs = "".join(f"<p>{part}</p>" for part in text.split("\n\n") if part)
    return (
        f'<details id="{identity}" data-row><summary><h4>{title}</h4><span><span class="m {method}">{method.upper()}'
        f'</span> <code>{escape(path)}</code></span></summary><div class="inside">{paragraphs}'
        f"{_table(list(_fields(operation, schemas)))}<dl>{facts}</dl>"
        f'<a href="#{identity}">Link to “{title}”</a></div></details>'
    )


def _table(rows: list[tuple[str, str, str]]) -> str:
    if not rows:
        return ""
    body = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(place)}</td><td>{escape(what)}</td></tr>"
        for name, place, what in rows
    )
    head = '<thead><tr><th scope="col">field</th><th scope="col">where</th><th scope="col">what</th></tr></thead>'
    return f"<table>{head}<tbody>{body}</tbody></table>"


def _fields(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, where, what) of every parameter and body field."""
    for parameter in operation.get("parameters", ()):
        schema = parameter.get("schema", {})
        yield (
            parameter["name"],
            parameter["in"] + (", required" if parameter.get("required") else ""),
            _what({**schema, "description": parameter.get("description") or schema.get("description", "")}, schemas),
        )
    for content in operation.get("requestBody", {}).get("content", {}).values():
        yield from _body_fields(content.get("schema", {}), schemas, "", 1)


def _body_fields(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], before: str, depth: int
) -> Iterator[tuple[str, str, str]]:
    resolved = _resolved(schema, schemas)
    required = set(resolved.get("required", ()))
    for name, field in resolved.get("properties", {}).items():
        yield before + name, "body" + (", required" if name in required else ""), _what(field, schemas)
        if depth < _FIELD_DEPTH_MAX:
            for part in (field, *field.get("anyOf", ())):
                inside = part.get("items") if part.get("type") == "array" else part
                mark = "[]." if part.get("type") == "array" else "."
                yield from _body_fields(inside or {}, schemas, f"{before}{name}{mark}", depth + 1)


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schemas.get(str(schema.get("$ref", "")).rsplit("/", 1)[-1], schema)
    return found


def _what(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The kind of a field, its bounds and default, and what it is for."""
    facts = [_kind(schema, schemas)]
    parts = (schema, *schema.get("anyOf", ()))
    for name, words in (("minimum", "from {}"), ("maximum", "to {}"), ("maxLength", "at most {} characters")):
        facts += [words.format(part[name]) for part in parts if name in part]
    if schema.get("default") not in (None, "", [], {}):
        facts.append(f"default {schema['default']}")
    description = schema.get("description")
    return ", ".join(facts) + (f": {description}" if description else "")


def _kind(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_kind(part, schemas) for part in schema["anyOf"])
    resolved = _resolved(schema, schemas)
    if "enum" in resolved:
        return " | ".join(map(str, resolved["enum"]))
    if "const" in resolved:
        return str(resolved["const"])
    kind = str(resolved.get("type") or "any")
    if kind == "array":
        return f"list of {_kind(resolved.get('items', {}), schemas)}"
    return f"{kind} ({resolved['format']})" if "format" in resolved else kind


def _errors() -> str:
    rows = "".join(
        f'<tr data-row id="{code.replace(".", "")}"><td><code>{escape(code)}</code></td>'
        f"<td>{row.status}, {row.fault}</td><td>{escape(row.title)}. {escape(row.next_step)}</td></tr>"
        for code, row in ERRORS.items()
    )
    names = "".join(f'<th scope="col">{name}</th>' for name in ("code", "status, fault", "what, and next step"))
    return (
        f'<section id="errors"><h2>Errors</h2><h3>Every code a problem detail may carry</h3>'
        f"<table><thead><tr>{names}</tr></thead><tbody>{rows}</tbody></table></section>"
    )
