"""The folder that files are dropped into: whole, or not at all."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path


class DropFolder:
    """Writes below one folder, which is made when it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, name: str, body: bytes) -> None:
        """Write a file under its name, in the place of one that has it; raises OSError.

        A reader sees it whole: it is written under a hidden name and renamed once it is on the disk.
        """
        await asyncio.to_thread(self._put, name, body)

    def _put(self, name: str, body: bytes) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self._folder / f".{name}.part"
        try:
            with part.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._folder / name)
        except OSError:
            part.unlink(missing_ok=True)
            raise
