"""A real S3 server (versitygw, with TLS) in the cluster."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from rig import Sandbox

IMAGE = "docker.io/library/mlops-test-versitygw:1"
PORT = 7070
ACCESS_KEY, SECRET_KEY = "mlops-test", "t0p+s3cret/of=the-test"


def server_name(namespace: str) -> str:
    """The server's name, which pods know and the controller does not."""
    return f"s3.{namespace}.svc"


Content = tuple[int, str]  # size and SHA-256


def content(body: bytes) -> Content:
    return len(body), hashlib.sha256(body).hexdigest()


@dataclass(frozen=True)
class Gateway:
    """The S3 server, asked past the tracking server."""

    client: Any
    ca: Path

    def objects(self, bucket: str) -> dict[str, Content]:
        """By key, what is in a bucket."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return {key: content(self.client.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys}


def certificates(sandbox: Sandbox, folder: Path, host: str) -> None:
    """A CA (ca.crt) and a certificate of it for the S3 server (tls.crt, tls.key)."""
    (folder / "openssl.cnf").write_text("[req]\ndistinguished_name = subject\n[subject]\n")
    path = {name: str(folder / name) for name in ("openssl.cnf", "ca.crt", "ca.key", "tls.crt", "tls.key")}
    request = ("openssl", "req", "-x509", "-config", path["openssl.cnf"], "-newkey", "rsa:2048", "-nodes", "-days", "2")

    def extensions(*texts: str) -> list[str]:
        always = ("subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid:always")
        return [part for text in (*always, *texts) for part in ("-addext", text)]

    own = extensions("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
    sandbox.run(*request, "-subj", "/CN=CA of the test", *own, "-out", path["ca.crt"], "-keyout", path["ca.key"])
    names = f"subjectAltName=DNS:{host},IP:{sandbox.node_address}"
    signed = [*extensions("basicConstraints=critical,CA:FALSE", names), "-CA", path["ca.crt"], "-CAkey", path["ca.key"]]
    sandbox.run(*request, "-subj", "/CN=s3", *signed, "-out", path["tls.crt"], "-keyout", path["tls.key"])


@contextmanager
def serving(sandbox: Sandbox, folder: Path, namespace: str, buckets: Iterable[str]) -> Iterator[Gateway]:
    """The S3 server in a namespace of its own, with buckets; `folder` is for its files."""
    program = sandbox.run("python3", "tests/sandbox/sandbox.py", "part", "versitygw", timeout=1200).split()[-1]
    context = folder / "image"
    context.mkdir()
    shutil.copy(program, context / "versitygw")
    (context / "Dockerfile").write_text('FROM scratch\nCOPY versitygw /versitygw\nENTRYPOINT ["/versitygw"]\n')
    certificates(sandbox, folder, server_name(namespace))

    metadata = {"name": "s3", "namespace": namespace}
    files = {name: (folder / name).read_text() for name in ("tls.crt", "tls.key")}
    container = {
        "name": "versitygw",
        "image": IMAGE,
        "args": [*("--port", f":{PORT}"), *("--cert", "/tls/tls.crt", "--key", "/tls/tls.key"), "posix", "/data"],
        "envFrom": [{"secretRef": {"name": "root"}}],
        "volumeMounts": [{"name": "tls", "mountPath": "/tls"}, {"name": "data", "mountPath": "/data"}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
    }
    specification = {
        "terminationGracePeriodSeconds": 0,
        "containers": [container],
        "volumes": [{"name": "tls", "secret": {"secretName": "tls"}}, {"name": "data", "emptyDir": {}}],
    }
    objects = [
        {"kind": "Namespace", "metadata": {"name": namespace}},
        {
            "kind": "Secret",
            "metadata": {"name": "root", "namespace": namespace},
            "stringData": {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
        },
        {"kind": "Secret", "metadata": {"name": "tls", "namespace": namespace}, "stringData": files},
        {"kind": "Pod", "metadata": metadata | {"labels": {"app": "s3"}}, "spec": specification},
        {
            "kind": "Service",
            "metadata": metadata,
            "spec": {"type": "NodePort", "selector": {"app": "s3"}, "ports": [{"port": PORT}]},
        },
    ]
    listing = {"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", **each} for each in objects]}
    sandbox.kubectl("delete", "namespace", namespace, "--ignore-not-found")  # what a killed test left
    try:
        sandbox.minikube("image", "build", "--tag", IMAGE, str(context))
        sandbox.kubectl("apply", "-f", "-", stdin=json.dumps(listing))
        sandbox.kubectl("wait", "-n", namespace, "--for=condition=Ready", "pod/s3", "--timeout=60s")
        (service,) = sandbox.objects("service", "-n", namespace)
        client = boto3.client(
            "s3",
            endpoint_url=f"https://{sandbox.node_address}:{service['spec']['ports'][0]['nodePort']}",
            verify=str(folder / "ca.crt"),
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            region_name="us-east-1",
            config=Config(retries={"mode": "standard", "total_max_attempts": 8}),  # until the node port is there
        )
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield Gateway(client, folder / "ca.crt")
    finally:
        sandbox.kubectl("delete", "namespace", namespace, "--ignore-not-found")
        sandbox.minikube("image", "rm", IMAGE, check=False)
