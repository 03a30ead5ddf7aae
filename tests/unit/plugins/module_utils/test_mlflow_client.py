# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The REST client against a small server on localhost that answers as told; the real one is in tests/integration."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_client import Client
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import MlflowError, Patience, Server
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: tuple[str, int]


@dataclass
class Fake:
    """Answers with what `answer` returns, and keeps the requests."""

    port: int = 0
    answer: Callable[[Request], Answer] = lambda request: (200, {}, b"OK")
    requests: list[Request] = field(default_factory=list)


def serve(fake: Fake, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, dict(self.headers), body, self.client_address)
            fake.requests.append(request)
            status, headers, content = fake.answer(request)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815  http.server's names

        def log_message(self, *arguments: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *arguments: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    fake.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def fake() -> Iterator[Fake]:
    state = Fake()
    server = serve(state)
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for mlflow.local, with its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mlflow.local")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mlflow.local")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "mlflow.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def tls_fake(certificate: Path) -> Iterator[Fake]:
    state = Fake()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = serve(state, context)
    yield state
    server.shutdown()
    server.server_close()


def failure_of(server: Server, timeout: float = 5) -> MlflowError:
    with Client(server, timeout) as client, pytest.raises(MlflowError) as caught:
        client.health()
    return caught.value


def test_requests_of_one_client_share_a_connection_and_carry_the_host_of_the_url(fake: Fake) -> None:
    with Client(Server(f"http://mlflow.local:{fake.port}/prefix/", address="127.0.0.1")) as client:
        client.health()
        client.health()
    assert [request.target for request in fake.requests] == ["/prefix/health"] * 2
    assert {request.headers["Host"] for request in fake.requests} == {f"mlflow.local:{fake.port}"}
    assert len({request.peer for request in fake.requests}) == 1


def test_a_host_header_and_credentials_of_the_callers_choice(fake: Fake) -> None:
    server = Server(f"http://127.0.0.1:{fake.port}", host="mlflow.local", username="ada", password="geheim ü")
    with Client(server) as client:
        client.health()
    assert fake.requests[0].headers["Host"] == "mlflow.local"
    assert fake.requests[0].headers["Authorization"] == "Basic YWRhOmdlaGVpbSDDvA=="
    assert "geheim" not in repr(server)


def test_names_are_escaped_in_paths_and_queries(fake: Fake) -> None:
    fake.answer = lambda request: (404, {}, b'{"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}')
    with Client(Server(f"http://127.0.0.1:{fake.port}")) as client:
        assert client.experiment("a b&c=d/ü?") is None
        with pytest.raises(MlflowError):
            client.download("1/a b?c#d.bin")
    assert fake.requests[0].target.endswith("?experiment_name=a+b%26c%3Dd%2F%C3%BC%3F")
    assert fake.requests[1].target.endswith("/artifacts/1/a%20b%3Fc%23d.bin")


def test_lists_are_read_page_by_page_up_to_the_limit(fake: Fake) -> None:
    pages = {"": (["a", "b"], "2"), "2": (["c", "d"], "")}

    def answer(request: Request) -> Answer:
        asked = json.loads(request.body)
        names, token = pages[asked.get("page_token", "")]
        items = [{"experiment_id": name, "name": name} for name in names[: asked["max_results"]]]
        return 200, {}, json.dumps({"experiments": items, "next_page_token": token}).encode()

    fake.answer = answer
    with Client(Server(f"http://127.0.0.1:{fake.port}")) as client:
        assert [item.name for item in client.experiments()] == ["a", "b", "c", "d"]
        assert [item.name for item in client.experiments(limit=3)] == ["a", "b", "c"]
    assert [json.loads(request.body)["max_results"] for request in fake.requests] == [1000, 1000, 3, 1]


REFUSALS = [
    # status, headers, body, in the message, patience
    (403, {}, b"Invalid Host header - possible DNS rebinding attack detected", "'mlflow.local:*'", Patience.SHORT),
    (403, {}, b"Permission denied", "Permission denied", Patience.SHORT),
    (401, {}, b"You are not authenticated.", "`username` and `password`", Patience.NONE),
    (404, {}, b"404 page not found", "ingress without a rule for the host", Patience.LONG),
    (413, {}, b"<html>Request Entity Too Large", "proxy-body-size", Patience.SHORT),
    (308, {"Location": "https://mlflow.local/health"}, b"", "https://mlflow.local/health", Patience.SHORT),
    (503, {}, b"no available server", "is the pod ready?", Patience.LONG),
    (503, {}, b"Endpoint disabled due to ... `--no-serve-artifacts`.", "--artifacts-destination", Patience.NONE),
    (500, {}, b"Internal Server Error", "The server's log", Patience.SHORT),
    (418, {}, b"{{0}} {braces}", "{braces}", Patience.SHORT),
    (503, {}, b'{"error_code": "TEMPORARILY_UNAVAILABLE", "message": "database is locked"}', "locked", Patience.LONG),
    (500, {}, b'{"error_code": "INTERNAL_ERROR", "message": "Permission denied: /x"}', "denied: /x", Patience.SHORT),
    (400, {}, b'{"error_code": "INVALID_PARAMETER_VALUE", "message": "bad name"}', "bad name", Patience.NONE),
    (200, {}, b"<html>Welcome to nginx!", "is not MLflow", Patience.SHORT),
]


@pytest.mark.parametrize(("status", "headers", "body", "expected", "patience"), REFUSALS)
def test_each_refusal_says_what_it_is_and_what_to_do(
    fake: Fake, status: int, headers: dict[str, str], body: bytes, expected: str, patience: Patience
) -> None:
    fake.answer = lambda request: (status, headers, body)
    error = failure_of(Server(f"http://mlflow.local:{fake.port}", address="127.0.0.1"))
    assert expected in error.message
    assert f"http://mlflow.local:{fake.port} (at 127.0.0.1)" in error.message
    assert error.patience == patience
    if status != 200:
        assert error.details["http_status"] == status


def test_nothing_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        error = failure_of(Server(f"http://127.0.0.1:{port}"))
    assert f"nothing listens at 127.0.0.1:{port}" in error.message
    assert error.patience == Patience.LONG


def test_silence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure_of(Server(f"http://127.0.0.1:{silent.getsockname()[1]}"), timeout=0.1)
    assert "stayed silent" in error.message
    assert error.patience == Patience.LONG


def test_an_unknown_name() -> None:
    error = failure_of(Server("http://mlflow.invalid"))
    assert "mlflow.invalid cannot be resolved" in error.message
    assert "`address`" in error.message


@pytest.mark.parametrize(
    ("said", "expected"), [(b"", "closed the connection"), (b"\x15\x03\x01\x00\x02\x02\x16", "did not answer in HTTP")]
)
def test_a_peer_that_speaks_no_http(said: bytes, expected: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        error = failure_of(Server(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()
    assert expected in error.message


def test_an_upload_that_a_proxy_refuses_before_it_has_read_it_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with Client(server) as client, pytest.raises(MlflowError, match="larger than a proxy allows"):
            client.upload("1/file", bytes(8 << 20))
        thread.join()


def test_files_go_and_come_piece_by_piece_over_one_connection(fake: Fake, tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000
    file = tmp_path / "file"
    file.write_bytes(content)
    fake.answer = lambda request: (200, {}, content)
    with Client(Server(f"http://127.0.0.1:{fake.port}")) as client:
        with file.open("rb") as opened:
            client.upload("1/a b", opened)
        pieces = list(client.pieces("1/a b"))
        for _ in client.pieces("1/a b"):
            break  # what is not read would be taken for the next answer
        fake.answer = lambda request: (200, {}, b"OK")
        client.health()
    assert b"".join(pieces) == content
    assert len(pieces) > 1
    assert fake.requests[0].body == content
    assert fake.requests[0].headers["Content-Length"] == str(len(content))
    assert len({request.peer for request in fake.requests}) == 2


def test_a_file_that_comes_back_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        thread = threading.Thread(target=answer)
        thread.start()
        server = Server(f"http://127.0.0.1:{listener.getsockname()[1]}")
        with Client(server) as client, pytest.raises(MlflowError, match="closed the connection"):
            list(client.pieces("1/file"))
        thread.join()


def test_tls_with_the_urls_name_at_another_address(tls_fake: Fake, certificate: Path) -> None:
    with Client(
        Server(f"https://mlflow.local:{tls_fake.port}", address="127.0.0.1", ca_path=str(certificate))
    ) as client:
        client.health()
    assert tls_fake.requests[0].headers["Host"] == f"mlflow.local:{tls_fake.port}"


def test_tls_without_the_ca_or_with_another_name_or_unchecked(tls_fake: Fake, certificate: Path) -> None:
    unknown = failure_of(Server(f"https://mlflow.local:{tls_fake.port}", address="127.0.0.1"))
    assert "the certificate was not accepted (self" in unknown.message
    assert "`ca_path`" in unknown.message
    assert unknown.patience == Patience.SHORT
    other = failure_of(Server(f"https://localhost:{tls_fake.port}", ca_path=str(certificate)))
    assert "not valid for 'localhost'" in other.message
    with Client(Server(f"https://localhost:{tls_fake.port}", validate_certs=False)) as client:
        client.health()


def test_tls_to_a_server_that_has_none(fake: Fake) -> None:
    error = failure_of(Server(f"https://127.0.0.1:{fake.port}"))
    assert "TLS failed" in error.message
    assert "use http://" in error.message


@pytest.mark.parametrize(("content", "expected"), [(None, "There is no CA bundle"), ("no PEM", "cannot be used")])
def test_a_ca_bundle_that_is_none(tmp_path: Path, content: str | None, expected: str) -> None:
    bundle = tmp_path / "ca.pem"
    if content:
        bundle.write_text(content)
    assert expected in failure_of(Server("https://127.0.0.1:1", ca_path=str(bundle))).message


def test_a_proxy_is_used_unless_an_address_is_given(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:word@127.0.0.1:{fake.port}")
    with Client(Server("http://mlflow.example:81")) as client:
        client.health()
    assert fake.requests[0].target == "http://mlflow.example:81/health"
    assert fake.requests[0].headers["Host"] == "mlflow.example:81"
    assert fake.requests[0].headers["Proxy-Authorization"] == "Basic dXNlcjp3b3Jk"
    with Client(Server(f"http://mlflow.example:{fake.port}", address="127.0.0.1")) as client:
        client.health()
    assert fake.requests[1].target == "/health"
    assert "Proxy-Authorization" not in fake.requests[1].headers
    fake.answer = lambda request: (502, {}, b"")
    assert f"through the proxy 127.0.0.1:{fake.port}" in failure_of(Server("http://mlflow.example")).message
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    failure_of(Server(f"http://127.0.0.1:{fake.port}"))
    assert fake.requests[-1].target == "/health"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mlflow.local", "begin with http://"),
        ("ftp://mlflow.local", "begin with http://"),
        ("http://", "begin with http://"),
        ("http://mlflow.local:99999", "Port out of range"),
        ("http://mlflow.local:0", "is not the address"),
        ("http://mlflow.local:port", "Port could not be cast"),
        ("http://[::1", "Invalid IPv6"),
        ("user:secret@mlflow.local", "credentials"),
        ("http://user:secret@mlflow.local", "credentials"),
        ("ftp://user:secret@mlflow.local", "credentials"),
        ("http://mlflow.local/?a=b", "query"),
    ],
)
def test_an_address_that_is_none(url: str, expected: str) -> None:
    with pytest.raises(MlopsError, match=expected) as caught:
        Server(url)
    assert "secret" not in caught.value.message


def test_an_ip_that_is_a_url() -> None:
    with pytest.raises(MlopsError, match="`address`"):
        Server("http://mlflow.local", address="http://192.0.2.1")


def test_ipv6() -> None:
    server = Server("http://[::1]:5000")
    assert server.peer == "::1:5000"
    assert server.host_header == "[::1]:5000"
    assert ipaddress.ip_address(server.parts.hostname or "") == ipaddress.ip_address("::1")
