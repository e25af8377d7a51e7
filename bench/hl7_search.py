"""Finding one HL7 message among a million, and the disk they take."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import hl7_gateway
from common.models.clock import FixedClock
from common.models.identifiers import time_part, type_id_of
from common.runtime.database import Database
from common.runtime.keyring import StaticKeyRing
from common.runtime.system import SystemIds
from common.testing import TENANT
from hl7_gateway.adapters.intake_tables import IntakeBase
from hl7_gateway.adapters.memory_intake import MemoryIntake
from hl7_gateway.adapters.message_store import MESSAGE, MESSAGE_KEY, SqlMessageStore, _keys, _row
from hl7_gateway.adapters.tables import Base
from hl7_gateway.core.message import Header, MessageState, NewMessage, milliseconds_of
from hl7_gateway.ports import MessageFilter

from bench.hl7_servers import durable_postgres
from bench.report import figure
