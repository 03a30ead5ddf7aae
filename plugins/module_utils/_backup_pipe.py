# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A repository at the other end of two streams: the pod asks, the controller serves its directory.

A message is its length in four bytes and its content. A request is a JSON object; an answer is one message, or for a
content its pieces and an empty message. A content that is written has no answer: the one who serves ends the
conversation where it cannot keep it, and what is asked is done in order.
"""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, Protocol

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import CHUNK, opened
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import OBJECTS, check_key, name_of
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Store, Take
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

LENGTH = struct.Struct(">I")
GIVEN_UP = 0xFFFFFFFF
"""In place of a length: the rest of this content does not come."""
LIMIT = 1 << 30


class Stream(Protocol):
    """One end of a conversation. What is written may wait until something is read."""

    def read(self, count: int) -> bytes:
        """So many bytes; raises EOFError where the other end has gone."""

    def write(self, data: bytes) -> None:
        """Send."""


class Ends:
    """A conversation over two file objects."""

    def __init__(self, receiving: IO[bytes], sending: IO[bytes]) -> None:
        self._receiving, self._sending = receiving, sending

    def read(self, count: int) -> bytes:
        """So many bytes; raises EOFError where the other end has gone."""
        self.flush()
        data = self._receiving.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def write(self, data: bytes) -> None:
        """Send, at the latest when something is read."""
        self._sending.write(data)

    def flush(self) -> None:
        """Send what waits."""
        self._sending.flush()


class GivenUpError(Exception):
    """The other end does not send the rest of a content."""


def send(stream: Stream, content: bytes) -> None:
    """Send a message."""
    stream.write(LENGTH.pack(len(content)) + content)


def receive(stream: Stream) -> bytes:
    """The next message."""
    (length,) = LENGTH.unpack(stream.read(LENGTH.size))
    if length == GIVEN_UP:
        raise GivenUpError
    if length > LIMIT:
        raise MlopsError(f"The other end announced a message of {length} bytes: it does not speak this protocol.")
    return stream.read(length)


def receive_content(stream: Stream) -> Iterator[bytes]:
    """The pieces of a content, to the empty message at its end."""
    while chunk := receive(stream):
        yield chunk


def send_content(stream: Stream, chunks: Iterable[bytes]) -> None:
    """Send a content; where it cannot be read to its end, tell so."""
    try:
        for chunk in chunks:
            for begin in range(0, len(chunk), CHUNK):
                send(stream, chunk[begin : begin + CHUNK])
    except Exception:
        stream.write(LENGTH.pack(GIVEN_UP))
        raise
    send(stream, b"")


class Remote:
    """The repository, as the pod sees it (a Store)."""

    parallel = 1

    def __init__(self, stream: Stream, place: str) -> None:
        self.place = place
        self._stream = stream
        self._turn = threading.Lock()

    def ask(self, do: str, **request: Any) -> None:
        """Send a request."""
        send(self._stream, json.dumps({"do": do, **request}).encode())

    def keys(self, folder: str) -> list[str]:
        """The keys that begin with the folder's name."""
        with self._turn:
            self.ask("keys", folder=folder)
            return list(json.loads(b"".join(receive_content(self._stream))))

    def read(self, key: str) -> bytes:
        """A small content."""
        with self._turn:
            self.ask("fetch", keys=[key])
            return b"".join(receive_content(self._stream))

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Send a content."""
        with self._turn:
            self.ask("write", key=key)
            send_content(self._stream, chunks)

    def fetch(self, keys: Sequence[str], take: Take) -> None:
        """Ask for all at once; they come in this order."""
        with self._turn:
            self.ask("fetch", keys=list(keys))
            for key in keys:
                take(key, receive_content(self._stream))

    def remove(self, keys: Sequence[str]) -> None:
        """Ask to remove contents."""
        with self._turn:
            self.ask("remove", keys=list(keys))

    def end(self, answer: dict[str, Any]) -> None:
        """End the conversation with an answer to who serves it."""
        self.ask("end", answer=answer)


def keep(store: Store, stream: Stream, key: str) -> None:
    """Take a content. An object is kept only if it is what its key says, whatever the pod sends."""
    pieces = receive_content(stream)
    try:
        if key.startswith(OBJECTS):
            store.write(key, held_against_its_key(pieces, key))
        else:
            store.write(key, pieces)
    except GivenUpError:
        return


def held_against_its_key(pieces: Iterator[bytes], key: str) -> Iterator[bytes]:
    """The pieces of an object as they came; raises DamagedError at their end where they are not what the key says."""
    passed: list[bytes] = []

    def noted() -> Iterator[bytes]:
        for piece in pieces:
            passed.append(piece)
            yield piece

    for _piece in opened(noted(), name_of(key), f"What the pod sent for {key}"):
        yield from passed
        passed.clear()
    yield from passed


def serve(store: Store, stream: Stream) -> dict[str, Any]:
    """Do what is asked until the other end says that it is done; its answer. Raises EOFError where it goes before."""
    while True:
        request = json.loads(receive(stream))
        match request["do"]:
            case "keys":
                send_content(stream, [json.dumps(store.keys(request["folder"])).encode()])
            case "fetch":
                store.fetch(request["keys"], lambda _, chunks: send_content(stream, chunks))
            case "write":
                keep(store, stream, check_key(request["key"]))
            case "remove":
                store.remove(request["keys"])
            case "end":
                return dict(request["answer"])
            case other:
                raise MlopsError(f"The pod asked for {other!r}, which nobody knows here.")
