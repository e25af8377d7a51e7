"""A FHIR resource as XML (R4 §2.6.1): what Epic answers when nobody asked for JSON."""

from __future__ import annotations

from typing import Any, Final
from xml.sax.saxutils import quoteattr

NAMESPACE: Final = "http://hl7.org/fhir"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8"?>'


def resource_xml(resource: dict[str, Any]) -> bytes:
    """The whole document, in UTF-8."""
    kind = resource["resourceType"]
    return f'{_HEAD}<{kind} xmlns="{NAMESPACE}">{_children(resource)}</{kind}>'.encode()


def _children(element: dict[str, Any]) -> str:
    return "".join(
        _element(name, item)
        for name, value in element.items()
        if name != "resourceType"
        for item in (value if isinstance(value, list) else [value])
    )


def _element(name: str, value: Any) -> str:
    if name == "extension" and isinstance(value, dict):  # an extension's url is an attribute, all else are elements
        inner = _children({key: item for key, item in value.items() if key != "url"})
        return f"<extension url={quoteattr(value['url'])}>{inner}</extension>"
    if isinstance(value, dict):
        inner = _children(value)
        if "resourceType" in value:  # a resource inside another stands in an element of its own type
            inner = f"<{value['resourceType']}>{inner}</{value['resourceType']}>"
        return f"<{name}>{inner}</{name}>"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"<{name} value={quoteattr(text)}/>"
