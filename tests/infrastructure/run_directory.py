"""The directory of one test run, shared by its workers, and the lock that says the run is alive.

The process that leads the run (the controller of pytest-xdist, or the only process) holds an exclusive flock on
`alive` for as long as it lives. Whatever it started waits for that lock: the kernel gives it up however the leader
ends, so no server outlives a run that was killed.
"""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

VARIABLE = "PS_TEST_RUN_DIRECTORY"
LEAVING_TIMEOUT_S = 30.0


class RunDirectory:
    """Paths and locks of one test run. Made by the leader with `lead`, found by the workers with `join`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._alive: IO[str] | None = None

    @classmethod
    def lead(cls) -> "RunDirectory":
        """Make the directory and hold its `alive` lock. 0711: a database server runs as another user below it."""
        run = cls(Path(tempfile.mkdtemp(prefix="ps-test-")))
        run.path.chmod(0o711)
        run._alive = run.alive_path.open("w", encoding="utf-8")
        fcntl.flock(run._alive, fcntl.LOCK_EX)
        os.environ[VARIABLE] = str(run.path)
        return run

    @classmethod
    def join(cls) -> "RunDirectory":
        return cls(Path(os.environ[VARIABLE]))

    @property
    def alive_path(self) -> Path:
        return self.path / "alive"

    @contextmanager
    def exclusive(self, name: str) -> Iterator[Path]:
        """One worker at a time; yields the path of the note that the first one leaves for the others."""
        with (self.path / f"{name}.lock").open("w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.path / f"{name}.json"

    def notes(self) -> dict[str, dict[str, Any]]:
        return {note.stem: json.loads(note.read_text("utf-8")) for note in sorted(self.path.glob("*.json"))}

    def leave(self) -> None:
        """End of the run: give the lock up, wait for the wardens to stop what they hold, remove the directory."""
        if self._alive is None:
            return
        self._alive.close()
        self._alive = None
        deadline = time.monotonic() + LEAVING_TIMEOUT_S
        while any(self.path.glob("*/warden")) and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.path, ignore_errors=True)
        os.environ.pop(VARIABLE, None)
