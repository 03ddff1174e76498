"""``run.loggers = ["tensorboard"]``: an event file, for tensorboard --logdir."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from esd.loggers.base import Context, Line, numbers_of

# the first word of a tag is its section in TensorBoard; keys that begin otherwise go to "time"
SECTIONS = {
    "return": "return",
    "center": "return",
    "tied": "return",
    "failed": "return",
    "sigma": "update",
    "learning": "update",
    "h": "update",
    "update": "update",
    "gradient": "update",
}
QUEUE = 1000  # events
FLUSH_SECONDS = 3600  # by its own thread; we do it


class TensorBoard:
    """Writes scalars, with the generation as the step."""

    def __init__(self, context: Context) -> None:
        """Write the lines so far into a new event file, in place of the old ones."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._context = context
        folder = context.own("tensorboard", folder=True)
        if folder.exists():
            shutil.rmtree(folder)
        self._writer = EventFileWriter(str(folder), QUEUE, FLUSH_SECONDS)
        self.write(context.lines)

    def write(self, lines: Sequence[Line]) -> None:
        """See ``Logger.write``."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for line in lines:
            values = [
                Summary.Value(tag=tag(key), simple_value=value)
                for key, value in numbers_of(line).items()
            ]
            time = self._context.wall_time(line)
            step = line["generation"]
            self._writer.add_event(Event(wall_time=time, step=step, summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """See ``Logger.close``."""
        self._writer.close()


def tag(key: str) -> str:
    """The tag of a key of the metrics, such as return/return_mean."""
    return f"{SECTIONS.get(key.partition('_')[0], 'time')}/{key}"
