"""The sending half of a connection: frames in order, both windows kept, nothing sent beyond them.

Control frames go out at once. Data goes as far as the stream's window, the connection's and the
socket allow; the rest waits in its stream, and the stream in a line here: the one that has waited
longest sends first when a window is opened.
"""

from collections.abc import Callable

from gateway.h2 import frames as f
from gateway.h2.stream import State, Stream


class Sender:
    """``wake`` is called when there is something to take and nobody is about to take it."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self.window = f.DEFAULT_WINDOW
        """Bytes that the peer takes on the whole connection."""
        self.frame_size = f.DEFAULT_FRAME_SIZE
        """The longest payload that the peer takes."""
        self.batching = False
        """Somebody is going to `take` anyway."""
        self.full = False
        """The socket takes no more."""
        self._wake = wake
        self._out: list[bytes | memoryview] = []
        self._waiting: dict[int, Stream] = {}  # longest waiting first

    def take(self) -> list[bytes | memoryview]:
        """What is to be sent, in order; it is the caller's from now on."""
        out, self._out = self._out, []
        return out

    def emit(self, frame: bytes) -> None:
        """Send a frame that no window holds back."""
        self._out.append(frame)
        if not self.batching:
            self._wake()

    def block(self, stream_id: int, block: bytes, *, end: bool) -> None:
        """HEADERS; with CONTINUATIONs when the block is longer than a frame."""
        most, kind, flags = self.frame_size, f.HEADERS, f.END_STREAM if end else 0
        while len(block) > most:
            self.emit(f.head(most, kind, flags, stream_id) + block[:most])
            block, kind, flags = block[most:], f.CONTINUATION, 0
        self.emit(f.head(len(block), kind, flags | f.END_HEADERS, stream_id) + block)

    def data(self, stream: Stream, data: bytes | memoryview) -> int:
        """DATA as far as both windows allow; how many bytes that were."""
        if self.full:
            return 0
        size = len(data)
        allowed = min(size, stream.send_window, self.window)
        if allowed <= 0:
            return 0
        most = self.frame_size
        stream.send_window -= allowed
        self.window -= allowed
        out = self._out
        if allowed == size and allowed <= most:
            out.append(f.head(allowed, f.DATA, 0, stream.id))
            out.append(data)
        else:
            view = memoryview(data)
            for start in range(0, allowed, most):
                piece = view[start : min(start + most, allowed)]
                out.append(f.head(len(piece), f.DATA, 0, stream.id))
                out.append(piece)
        if not self.batching:
            self._wake()
        return allowed

    def wait(self, stream: Stream) -> None:
        """The stream has something to send and may not."""
        self._waiting[stream.id] = stream

    def waits(self, stream: Stream) -> bool:
        """Whether the stream has something to send that it may not send yet."""
        return stream.id in self._waiting

    def forget(self, stream: Stream) -> None:
        """The stream is over."""
        self._waiting.pop(stream.id, None)

    def pump(self, moved: Callable[[Stream], object]) -> None:
        """Windows were opened: send what waits; ``moved`` is told of each stream that could."""
        if self.full or not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for stream in waiting.values():
            if self.window <= 0 or stream.send_window <= 0:
                self._waiting[stream.id] = stream
                continue
            if not stream.pump():
                self._waiting[stream.id] = stream
            if stream.state is not State.CLOSED:
                moved(stream)
