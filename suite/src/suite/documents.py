"""Writes the documents that are generated from rows: errors, settings, access, topics and events, OpenAPI.

`make docs` runs it; a test compares what it would write with what lies in docs/.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from common.models.access import Role
from common.models.errors import catalogue_markdown as errors_markdown
from common.models.events import DEAD_LETTER_SUFFIX, EVENT_TYPES, TOPICS, Topic
from common.runtime.chassis_api import CHASSIS_ACCESS, DATABASE_ACCESS
from common.runtime.host import PROCESS_ACCESS, Host, compose
from common.runtime.settings import RuntimeSettings
from common.runtime.settings import catalogue_markdown as settings_markdown
from suite.composition import SERVICES, SETTINGS
from suite.simulator_document import simulator_faults_markdown, simulator_hl7_markdown
from suite.system_documents import system_documents

DOCS: Final = Path(__file__).resolve().parents[3] / "docs"


def documents() -> dict[str, str]:
    """File name in docs/ → its text."""
    with tempfile.TemporaryDirectory() as folder:
        host = compose(list(SERVICES.values()), RuntimeSettings(data=Path(folder)), service="suite")
        return {
            "errors.md": errors_markdown(),
            "settings.md": settings_markdown(SETTINGS),
            "access.md": access_markdown(host),
            "asyncapi.yaml": asyncapi_yaml(),
            "simulator-faults.md": simulator_faults_markdown(),
            "simulator-hl7.md": simulator_hl7_markdown(),
            **system_documents(),
            "openapi.json": json.dumps(host.app.openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n",
        }


def access_markdown(host: Host) -> str:
    """The role × route matrix."""
    lines = [
        "# Who may call what",
        "",
        "One row per route, enforced before the request is read, tested for every role.",
        "Generated from the access rows.",
        "A tenant-admin holds every role of its tenant. `–`: no bearer token of ours; the reason stands beside it.",
    ]
    for module in host.modules:
        lines += ["", f"## {module.name}", "", "| route | roles |", "|---|---|"]
        rows = [*module.access, *CHASSIS_ACCESS, *(DATABASE_ACCESS if module.database is not None else ())]
        lines += [
            f"| `{row.method} {module.prefix}/v1{row.path}` | {_roles(row.roles) if row.roles else f'– {row.reason}'} |"
            for row in rows
        ]
    lines += ["", "## Every process", "", "| route | roles |", "|---|---|"]
    lines += [f"| `{row.method} {row.path}` | – {row.reason} |" for row in PROCESS_ACCESS]
    return "\n".join(lines) + "\n"


def _roles(roles: frozenset[Role]) -> str:
    return "any role" if roles == frozenset(Role) else ", ".join(role for role in Role if role in roles)


def asyncapi_yaml() -> str:
    """AsyncAPI 3.0 of the topics: one channel per topic, one message per event type."""
    messages: dict[str, Any] = {}
    channels: dict[str, Any] = {}
    for topic in TOPICS.values():
        types = [row for row in EVENT_TYPES.values() if row.topic == topic.name]
        for row in types:
            messages[row.name] = {
                "name": row.name,
                "title": row.title,
                "contentType": "application/json",
                "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
                "payload": {
                    "$id": f"urn:practice-studio:event:{row.name}:{row.version}",
                    "type": "object",
                    "properties": {name: {"type": [kind, "null"]} for name, kind in row.fields.items()},
                },
            }
        channels[topic.name] = {
            "address": topic.name,
            "description": _description(topic),
            "messages": {row.name: {"$ref": f"#/components/messages/{row.name}"} for row in types},
            "bindings": {
                "kafka": {
                    "partitions": topic.partitions,
                    "topicConfiguration": {
                        "cleanup.policy": ["compact" if topic.compacted else "delete"],
                        "retention.ms": topic.retention_ms,
                    },
                }
            },
        }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Practice Studio Integrations: events",
            "version": "1",
            "description": "CloudEvents 1.0, Kafka binding in binary mode. Events are thin: ids, "
            "versions, names of changed fields, "
            "codes, counts; never a body, never patient data. Schemas only grow.",
        },
        "channels": channels,
        "components": {"messages": messages, "schemas": {"CloudEventHeaders": _HEADERS}},
    }
    return "# Generated from common.models.events by `make docs`.\n" + yaml.safe_dump(
        document, sort_keys=False, allow_unicode=True, width=120
    )


def _description(topic: Topic) -> str:
    dead_letters = topic.name + DEAD_LETTER_SUFFIX if topic.dead_letters else "none"
    whole = " Broadcast: every replica reads it whole." if topic.broadcast else ""
    return f"Key: {topic.key or 'none'}. Dead letters: {dead_letters}.{whole}"


_HEADERS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_tenant"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "TypeID evt_…"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string", "description": "/module/replica"},
        "ce_subject": {"type": "string", "description": "id of the thing the event is about"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_dataschema": {"type": "string", "description": "urn:practice-studio:event:<type>:<version>"},
        "ce_tenant": {"type": "string"},
        "ce_traceparent": {"type": "string", "description": "W3C Trace Context"},
        "ce_partitionkey": {"type": "string"},
        "ce_generation": {"type": "string", "description": "0, or the number of the replay"},
    },
}


def differences(folder: Path = DOCS) -> Iterator[str]:
    """Names of documents that are missing or differ from their rows."""
    for name, text in documents().items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield name


def main(arguments: Sequence[str] = ()) -> int:
    """Write the documents; with `--check` only compare (exit status 1 when one differs)."""
    if "--check" in arguments:
        stale = list(differences())
        print("\n".join(f"docs/{name} differs: run `make docs`" for name in stale) or "documents are true")
        return 1 if stale else 0
    for name, text in documents().items():
        (DOCS / name).parent.mkdir(exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
