"""A token service for a registry (https://distribution.github.io/distribution/spec/auth/token/): it sells signed tokens, and remembers what was asked."""

from __future__ import annotations

import base64
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

SERVICE = "hubdock-test-registry"


def make_certificate(key: rsa.RSAPrivateKey) -> x509.Certificate:
    """Return a certificate of 127.0.0.1 that signs itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hubdock tests")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    return builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())


def write_tls(directory: Path) -> dict[str, object]:
    """Return the ``tls`` of a registry with a certificate of its own."""
    key, paths = rsa.generate_private_key(public_exponent=65537, key_size=2048), (directory / "tls.pem", directory / "tls.key")
    paths[0].write_bytes(make_certificate(key).public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return {"certificate": str(paths[0]), "key": str(paths[1])}


class TokenServer:
    """``team``/``only-for-tests`` may do everything, anybody may pull what lies below ``public/``. ``life`` is in seconds."""

    def __init__(self, directory: Path, life: float = 300.0) -> None:
        self.life = life
        self.asked: list[tuple[str, list[str]]] = []
        self.broken = False
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = make_certificate(self._key)
        self.bundle = directory / "token.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def setting(self) -> dict[str, object]:
        """The registry's ``auth``."""
        return {"token": {"realm": self.url, "service": SERVICE, "issuer": "hubdock tests", "rootcertbundle": str(self.bundle)}}

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _make_token(self, user: str, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            granted = actions.split(",") if user else [action for action in actions.split(",") if action == "pull" and name.startswith("public/")]
            access.append({"type": kind, "name": name, "actions": granted})
        now = time.time()
        claims = {
            "iss": "hubdock tests", "sub": user, "aud": SERVICE, "nbf": int(now) - 1, "iat": int(now), "exp": int(now + self.life) + 1, "jti": str(now), "access": access,
        }  # fmt: skip
        chain = [base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()]
        text = f"{_encode({'typ': 'JWT', 'alg': 'RS256', 'x5c': chain})}.{_encode(claims)}"
        return f"{text}.{_pack(self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                header = self.headers.get("Authorization", "")
                user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":") if header else ("", "", "")
                service.asked.append((user, query.get("scope", [])))
                if service.broken:
                    self.answer(500, {"details": "broken"})
                elif header and (user, password) != ("team", "only-for-tests"):
                    self.answer(401, {"details": "incorrect username or password"})
                else:
                    self.answer(200, {"token": service._make_token(user, query.get("scope", [])), "expires_in": service.life})

            def answer(self, status: int, values: dict[str, Any]) -> None:
                content = json.dumps(values).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


def _pack(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _encode(values: dict[str, Any]) -> str:
    return _pack(json.dumps(values).encode())
