# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""S3: a bucket as repository, and a bucket in which the server keeps artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ansible_collections.mlops.mlflow.plugins.module_utils._backup_content import CHUNK
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_manifest import KEY, Artifact, Entry
from ansible_collections.mlops.mlflow.plugins.module_utils._backup_store import Take
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError

FOLDER = ".mlflow-restore"
MODE = 0o640  # of a file that comes of an object
DELETE_LIMIT = 1000
THREADS = 4
GONE = ("404", "NoSuchKey")


@contextmanager
def telling(place: str) -> Iterator[None]:
    """Turn what goes wrong with S3 into an error for people; FileNotFoundError for an object that is not there."""
    from boto3.exceptions import Boto3Error  # noqa: PLC0415 (the image's)
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in GONE:
            raise FileNotFoundError(place) from error
        raise MlopsError(f"S3 refused {place}: {error}.") from error
    except (BotoCoreError, Boto3Error) as error:
        raise MlopsError(f"S3 failed for {place}: {error}.") from error


class Reading:
    """What S3's client reads an upload from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = bytearray()

    def read(self, count: int = -1) -> bytes:
        """So many bytes, fewer at the end; all of them for a negative number."""
        while count < 0 or len(self._rest) < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                break
            self._rest += chunk
        count = len(self._rest) if count < 0 else count
        data = bytes(self._rest[:count])
        del self._rest[:count]
        return data


class Prefix:
    """The objects of a bucket whose keys begin with a prefix, by the rest of their keys."""

    def __init__(self, client: Any, bucket: str, prefix: str) -> None:
        self.place = "/".join(part for part in ("s3:/", bucket, prefix) if part)
        self._client, self._bucket = client, bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def items(self, folder: str) -> dict[str, dict[str, Any]]:
        """What S3 lists of the objects in a folder, with its subfolders."""
        start = f"{self._prefix}{folder}"
        with telling(f"{self.place}/{folder}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=start)
            return {item["Key"].removeprefix(self._prefix): item for page in pages for item in page.get("Contents", [])}

    def get(self, key: str) -> Iterator[bytes]:
        """A content."""
        with telling(f"{self.place}/{key}"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            yield from answer["Body"].iter_chunks(CHUNK)

    def put(self, key: str, chunks: Iterable[bytes]) -> None:
        """Store a content, in parts where it is large."""
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415

        one_by_one = TransferConfig(use_threads=False)
        with telling(f"{self.place}/{key}"):
            self._client.upload_fileobj(Reading(chunks), self._bucket, self._prefix + key, Config=one_by_one)

    def copy(self, key: str, target: str) -> None:
        """Copy an object within the bucket."""
        source = {"Bucket": self._bucket, "Key": self._prefix + key}
        with telling(f"{self.place}/{key}"):
            self._client.copy(source, self._bucket, self._prefix + target)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; one that is not there is not missed."""
        for begin in range(0, len(keys), DELETE_LIMIT):
            listed = [{"Key": self._prefix + key} for key in keys[begin : begin + DELETE_LIMIT]]
            with telling(self.place):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": listed, "Quiet": True})
            for failed in answer.get("Errors", []):
                raise MlopsError(f"S3 does not remove {failed['Key']} of {self.place}: {failed.get('Message')}.")


class Bucket:
    """A repository in a bucket (a Store)."""

    parallel = THREADS

    def __init__(self, prefix: Prefix) -> None:
        self.place = prefix.place
        self._prefix = prefix

    def keys(self, folder: str) -> list[str]:
        """The keys that begin with the folder's name."""
        return [key for key in self._prefix.items(f"{folder}/") if KEY.fullmatch(key)]

    def read(self, key: str) -> bytes:
        """A small content."""
        return b"".join(self._found(key))

    def write(self, key: str, chunks: Iterable[bytes]) -> None:
        """Store a content."""
        self._prefix.put(key, chunks)

    def fetch(self, keys: Sequence[str], take: Take) -> None:
        """Read several contents at once."""
        with ThreadPoolExecutor(self.parallel) as pool:
            for _done in pool.map(lambda key: take(key, self._found(key)), keys):
                pass

    def remove(self, keys: Sequence[str]) -> None:
        """Remove contents."""
        self._prefix.delete(keys)

    def _found(self, key: str) -> Iterator[bytes]:
        try:
            yield from self._prefix.get(key)
        except FileNotFoundError as error:
            raise MlopsError(f"{self.place}/{key} is missing: the repository is damaged.") from error


class Objects:
    """Artifacts in a bucket (Artifacts). What the restored state does not have is left where it is."""

    def __init__(self, prefix: Prefix) -> None:
        self._prefix = prefix
        self._live: dict[str, Entry] | None = None

    def entries(self) -> dict[str, Entry]:
        """The objects."""
        return {
            key: Entry(item["Size"], MODE, item["ETag"].strip('"'))
            for key, item in self._prefix.items("").items()
            if not key.startswith(f"{FOLDER}/")
        }

    def read(self, path: str) -> Iterator[bytes]:
        """An object's content."""
        return self._prefix.get(path)

    def stage(self, artifact: Artifact, chunks: Iterator[bytes]) -> None:
        """Store an object beside the live ones; what is live already is only held against its digest."""
        if self._is_live(artifact):
            for _chunk in chunks:
                pass
        else:
            self._prefix.put(self._new(artifact.path), chunks)

    def stage_again(self, artifact: Artifact, staged: Artifact) -> None:
        """Copy an object that is staged or live."""
        if not self._is_live(artifact):
            self._prefix.copy(
                staged.path if self._is_live(staged) else self._new(staged.path), self._new(artifact.path)
            )

    def keep(self) -> None:
        """Copy aside what will be written over."""
        live = self.entries()
        self._each(lambda path: self._prefix.copy(path, self._old(path)) if path in live else None)

    def put(self) -> None:
        """Put the staged objects in their place."""
        self._each(lambda path: self._prefix.copy(self._new(path), path))

    def take_back(self) -> None:
        """Put back what was kept, and remove what there was not."""
        kept = self._prefix.items(f"{FOLDER}/old/")

        def back(path: str) -> None:
            if self._old(path) in kept:
                self._prefix.copy(self._old(path), path)
            else:
                self._prefix.delete([path])

        self._each(back)

    def clear(self) -> None:
        """Remove what a restore left."""
        self._prefix.delete(list(self._prefix.items(f"{FOLDER}/")))

    def _is_live(self, artifact: Artifact) -> bool:
        if self._live is None:
            self._live = self.entries()
        found = self._live.get(artifact.path)
        return bool(found and (found.size, found.stamp) == (artifact.size, artifact.stamp))

    def _each(self, work: Callable[[str], None]) -> None:
        staged = [key.removeprefix(self._new("")) for key in self._prefix.items(self._new(""))]
        with ThreadPoolExecutor(THREADS) as pool:
            for _done in pool.map(work, staged):
                pass

    @staticmethod
    def _new(path: str) -> str:
        return f"{FOLDER}/new/{path}"

    @staticmethod
    def _old(path: str) -> str:
        return f"{FOLDER}/old/{path}"


def bucket_of(environment: Mapping[str, str]) -> Bucket:
    """The repository that the environment names."""
    import boto3  # noqa: PLC0415

    client = boto3.client(
        "s3",
        endpoint_url=environment.get("BACKUP_S3_ENDPOINT") or None,
        region_name=environment.get("BACKUP_S3_REGION") or "us-east-1",
        aws_access_key_id=environment["BACKUP_S3_ACCESS_KEY"],
        aws_secret_access_key=environment["BACKUP_S3_SECRET_KEY"],
        verify=environment.get("BACKUP_S3_CA") or True,
    )
    return Bucket(Prefix(client, environment["BACKUP_S3_BUCKET"], environment.get("BACKUP_S3_PREFIX", "")))


def artifacts_at(uri: str, environment: Mapping[str, str]) -> Objects:
    """The artifacts at an s3:// URI, reached as the server does."""
    import boto3  # noqa: PLC0415

    client = boto3.client("s3", endpoint_url=environment.get("MLFLOW_S3_ENDPOINT_URL") or None)
    bucket, _slash, prefix = uri.removeprefix("s3://").partition("/")
    return Objects(Prefix(client, bucket, prefix.strip("/")))
