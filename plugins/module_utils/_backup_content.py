# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents on their way: compressed, and held against their digests."""

from __future__ import annotations

import hashlib
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO

from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

CHUNK = 1 << 20
PROBE = 1 << 16
TELL_SECONDS = 5.0
GZIP = 31  # zlib's number for a window of 32 KiB in gzip's format

Tell = Callable[[str], None]


class DamagedError(MlopsError):
    """A content is not what its digest says."""


def chunks_of(stream: IO[bytes]) -> Iterator[bytes]:
    """What is in a stream, piece by piece."""
    while chunk := stream.read(CHUNK):
        yield chunk


def sha256_of(chunks: Iterable[bytes]) -> str:
    """The digest of a content."""
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()


def compressed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content in gzip's format. What does not shrink, as pictures and weights, is not compressed a second time."""
    packer = None
    for chunk in chunks:
        if packer is None:
            probe = chunk[:PROBE]
            shrinks = len(zlib.compress(probe, 1)) < 0.9 * len(probe)
            packer = zlib.compressobj(1 if shrinks else 0, wbits=GZIP)
        if packed := packer.compress(chunk):
            yield packed
    yield (packer or zlib.compressobj(1, wbits=GZIP)).flush()


def decompressed(chunks: Iterable[bytes], place: str) -> Iterator[bytes]:
    """The content of a gzip file, in pieces of a bounded size; DamagedError where it is none, or not all of one."""
    unpacker = zlib.decompressobj(GZIP)
    try:
        for chunk in chunks:
            rest = chunk
            while rest and not unpacker.eof:
                if plain := unpacker.decompress(rest, CHUNK):
                    yield plain
                rest = unpacker.unconsumed_tail
    except zlib.error as error:
        raise DamagedError(f"{place} is damaged: {error}.") from error
    if not unpacker.eof:
        raise DamagedError(f"{place} is damaged: its end is missing.")


def checked(chunks: Iterable[bytes], sha256: str, place: str) -> Iterator[bytes]:
    """The content as it is; DamagedError at its end where its digest is another."""
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
        yield chunk
    if found.hexdigest() != sha256:
        raise DamagedError(f"{place} is damaged: its SHA-256 is {found.hexdigest()}.")


def opened(chunks: Iterable[bytes], sha256: str, place: str) -> Iterator[bytes]:
    """The content of an object of a repository."""
    return checked(decompressed(chunks, place), sha256, place)


@dataclass
class Progress:
    """What has been on its way, and a line for people from time to time."""

    tell: Tell
    objects: int = 0
    size: int = 0
    stored: int = 0
    told: float = field(default_factory=time.monotonic)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int, stored: int) -> None:
        """Note one content."""
        with self.turn:
            self.objects, self.size, self.stored = self.objects + 1, self.size + size, self.stored + stored
            if time.monotonic() - self.told > TELL_SECONDS:
                self.told = time.monotonic()
                self.tell(f"{self.objects} objects, {self.size / 1e6:.0f} MB")
