"""The answers of a batch's messages, kept until all are there; then the batch is answered at once."""

from __future__ import annotations

from collections.abc import Callable

from hl7_gateway.core.batch_frame import BatchFrame

Write = Callable[[bytes], None]


class BatchAnswer:
    """`slot(place)` takes the frames of one message's answer; the last one writes the batch's."""

    def __init__(self, batch: BatchFrame, time: bytes, control_id: bytes, write: Write) -> None:
        self._batch = batch
        self._time = time
        self._control_id = control_id
        self._write = write
        self._given: list[bytes | None] = [None] * len(batch.messages)

    def slot(self, place: int) -> Write:
        """Where the answer of a message goes."""

        def write(frames: bytes) -> None:
            self._given[place] = frames
            self.finish()

        return write

    def finish(self) -> None:
        """Write the answer if nothing is missing."""
        given = [frames for frames in self._given if frames is not None]
        if len(given) == len(self._given):
            self._write(self._batch.answered(given, time=self._time, control_id=self._control_id))
