"""The files of a day: what was told since the last one, each time the practice's clock has gone so far, and at the end.

A file that cannot be written is tried again with the next tick, `ATTEMPTS_MAX` times, then counted as failed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from simulator.core.chart import Chart
from simulator.core.day_files import FileForm, batch_file, csv_file, csv_row
from simulator.core.day_run import Told
from simulator.ports import FileDrop

ATTEMPTS_MAX: Final = 3
FILES_WAITING_MAX: Final = 1_000


@dataclass(frozen=True, slots=True)
class DropPlan:
    """The form of the files, and how many minutes of the day go into one."""

    form: FileForm
    every_minutes: int


@dataclass(slots=True)
class Drops:
    """The files of one day. `stamp` parts the names of this day from those of another run of it."""

    plan: DropPlan
    chart: Chart = field(repr=False)
    stamp: str
    ends: datetime
    """When the file that is being filled ends."""
    written: list[str] = field(default_factory=list)
    file_bytes: int = 0
    failed: int = 0
    number: int = 0
    attempts: int = 0
    waiting: deque[tuple[str, bytes]] = field(default_factory=deque, repr=False)
    _messages: list[bytes] = field(default_factory=list, repr=False)
    _rows: list[tuple[str, ...]] = field(default_factory=list, repr=False)

    def tell(self, at: datetime, told: Told, message: bytes) -> None:
        """Something that happened at an instant of the day; instants never go back."""
        self.until(at)
        self._messages.append(message)
        self._rows.append(csv_row(self.chart, told, at))

    def until(self, now: datetime) -> None:
        """The clock shows this: files whose time is over are complete."""
        while self.ends <= now:
            self._complete(self.ends)
            self.ends += timedelta(minutes=self.plan.every_minutes)

    def close(self, now: datetime) -> None:
        """The day is over: what was told since the last file is the last one."""
        self._complete(now)

    def _complete(self, at: datetime) -> None:
        if not self._messages:
            return
        self.number += 1
        practice, form = self.chart.practice, self.plan.form
        name = f"{practice.name}-{self.stamp}-{self.number:04d}.{form.value}"
        if form is FileForm.CSV:
            body = csv_file(self._rows)
        else:
            body = batch_file(practice, self._messages, at, f"F{self.stamp[-14:]}{self.number:04d}")
        self._messages, self._rows = [], []
        if len(self.waiting) >= FILES_WAITING_MAX:
            self.failed += 1
            return
        self.waiting.append((name, body))

    async def write(self, folder: FileDrop) -> None:
        """Write what waits, in order; stops at the first that cannot be written now."""
        while self.waiting:
            name, body = self.waiting[0]
            try:
                await folder.put(name, body)
            except OSError:
                self.attempts += 1
                if self.attempts < ATTEMPTS_MAX:
                    return
                self.failed += 1
            else:
                self.written.append(name)
                self.file_bytes += len(body)
            self.attempts = 0
            self.waiting.popleft()
