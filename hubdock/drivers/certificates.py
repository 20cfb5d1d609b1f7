"""The certificate authorities that git trusts: the system's and the admin's, in one file, for git takes only one."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from hubdock.core.errors import ConfigError
from hubdock.core.naming import make_hash

# Debian and its kin, Fedora and its kin, Alpine and macOS.
_SYSTEM = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def find_system_bundle() -> str:
    """Return the file of authorities that this process would trust: the environment's, else the system's; empty if there is none."""
    places = (os.environ.get("GIT_SSL_CAINFO"), os.environ.get("SSL_CERT_FILE"), *_SYSTEM, ssl.get_default_verify_paths().cafile)
    return next((place for place in places if place and Path(place).is_file()), "")


def read_certificates(path: str) -> str:
    """Return the text of a PEM file, empty without a path. Raises ConfigError if it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8") if path else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"HubDock.extra_ca_certificates: {path} can't be read: {error}.") from error


def ensure_bundle(state: Path, extra: str) -> Path:
    """Return a file below ``state`` that holds the system's authorities and those of the file ``extra``. It is named by its content, so that who
    reads it finds it whole, and a change of either file makes another. Raises ConfigError if one can't be read."""
    text = f"{read_certificates(find_system_bundle()).rstrip()}\n{read_certificates(extra).rstrip()}\n"
    path = state / "certificates" / f"{make_hash(text, length=24)}.pem"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        work = path.with_name(f".{path.name}.{os.getpid()}")
        work.write_text(text, encoding="utf-8")
        work.replace(path)
    return path
