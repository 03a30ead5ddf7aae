"""The server's artifact store on S3, in the place of MLflow's own (entry point `mlflow.artifact_repository`).

MLflow's own lets clients fetch artifacts from S3 themselves, by presigned URLs, and with 3.17 its client and its web
page do so for every download: each would have to reach S3 and to trust its certificate. It is the mixins of its class
that the server tells them of (`mlflow.server.handlers.build_server_info_payload`); this one does without. And what S3
says of a failure would stay in the server's log, behind a bare 500; here it is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import botocore.session
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import ClientError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import BOTO_TO_MLFLOW_ERROR, S3ArtifactRepository

# Three attempts end within 10 s: who asks hears that S3 cannot be reached before giving up on the server.
_SESSION = botocore.session.get_session()
_SESSION.set_default_client_config(Config(connect_timeout=2, retries={"mode": "standard"}))
boto3.setup_default_session(botocore_session=_SESSION)


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Turn whatever goes wrong into an error that MLflow answers with."""
    try:
        yield
    except MlflowException:
        raise
    except Exception as error:
        cause = error.__context__ if isinstance(error, S3UploadFailedError) else error
        code = cause.response["Error"]["Code"] if isinstance(cause, ClientError) else ""
        raise MlflowException(
            f"The artifact store {where} failed: {error}", BOTO_TO_MLFLOW_ERROR.get(code, INTERNAL_ERROR)
        ) from error


class S3Store(ArtifactRepository):
    """MLflow's S3 store, with the server between it and the clients."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._s3 = S3ArtifactRepository(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file."""
        with _telling(self.artifact_uri):
            self._s3.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store the files below a directory."""
        with _telling(self.artifact_uri):
            self._s3.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        """What is in a directory (`mlflow.entities.FileInfo`)."""
        with _telling(self.artifact_uri):
            return self._s3.list_artifacts(path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove a file, or a directory with what is in it."""
        with _telling(self.artifact_uri):
            self._s3.delete_artifacts(artifact_path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with _telling(self.artifact_uri):
            self._s3._download_file(remote_file_path, local_path)
