# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command in a pod and speaks with it over its standard input and output, in bytes.

Contract: the subprotocol v4.channel.k8s.io of
https://kubernetes.io/docs/reference/using-api/websockets/: each message begins with the number of its stream.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlencode

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes import Connection, unreachable

STDIN, STDOUT, STDERR, ERROR = 0, 1, 2, 3
TEXT, BINARY, CLOSE = 1, 2, 8
SILENCE = 60  # seconds
ENOUGH = 1 << 18


class Exec:
    """A running command; what is written is sent when there is enough of it, or before something is read."""

    def __init__(self, socket: Any, where: str, tell: Callable[[str], None]) -> None:
        self._socket, self._where, self._tell = socket, where, tell
        self._received: deque[bytes] = deque()
        self._size = 0
        self._waiting = bytearray()
        self._line = b""
        self.ended = ""
        """How the command ended, once it has."""

    def write(self, data: bytes) -> None:
        """Send to the command's standard input."""
        self._waiting += data
        if len(self._waiting) >= ENOUGH:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._waiting:
            try:
                self._socket.send(bytes([STDIN]) + self._waiting, opcode=BINARY)
            except OSError as error:
                raise self._lost(error) from error
            self._waiting.clear()

    def read(self, count: int) -> bytes:
        """So many bytes of the command's standard output; EOFError where it ended before."""
        self.flush()
        while self._size < count:
            self._receive()
        taken = []
        while count:
            piece = self._received.popleft()
            if len(piece) > count:
                self._received.appendleft(piece[count:])
                piece = piece[:count]
            count -= len(piece)
            taken.append(piece)
        data = b"".join(taken)
        self._size -= len(data)
        return data

    def close(self) -> None:
        """End the conversation; the command finds its standard input at its end."""
        self._socket.close()

    def _receive(self) -> None:
        import websocket  # noqa: PLC0415

        if self.ended:
            raise EOFError
        try:
            opcode, message = self._socket.recv_data()
        except (OSError, websocket.WebSocketException) as error:
            raise self._lost(error) from error
        if opcode == CLOSE:
            self.ended = "the connection was closed"
        elif opcode in (TEXT, BINARY) and len(message) > 1:
            self._take(message[0], message[1:])

    def _take(self, channel: int, data: bytes) -> None:
        if channel == STDOUT:
            self._received.append(data)
            self._size += len(data)
        elif channel == STDERR:
            *lines, self._line = (self._line + data).split(b"\n")
            for line in lines:
                if line:
                    self._tell(line.decode(errors="replace"))
        elif channel == ERROR:
            self.ended = str(json.loads(data).get("message") or "it ended")

    def _lost(self, error: Exception) -> MlopsError:
        return MlopsError(f"The connection to {self._where} was lost: {error}. Run again.")


def execute(
    connection: Connection, namespace: str, pod: str, command: Sequence[str], tell: Callable[[str], None]
) -> Exec:
    """Start a command in a pod's first container. `tell` gets each line of its standard error."""
    import websocket  # noqa: PLC0415
    from kubernetes.stream.ws_client import create_websocket  # noqa: PLC0415

    query = [("command", word) for word in command] + [(name, "true") for name in ("stdin", "stdout", "stderr")]
    server = "ws" + connection.server.removeprefix("http")
    url = f"{server}/api/v1/namespaces/{namespace}/pods/{pod}/exec?{urlencode(query)}"
    headers = dict(connection.api.default_headers)
    connection.api.update_params_for_auth(headers, [], ["BearerToken"])
    try:
        socket = create_websocket(connection.api.configuration, url, headers)
    except (OSError, websocket.WebSocketException) as error:
        raise unreachable(connection.server, connection.context, error) from error
    socket.settimeout(SILENCE)
    return Exec(socket, f"pod {namespace}/{pod}", tell)
