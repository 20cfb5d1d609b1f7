"""Fetches what the server is given when it starts, where nobody could put it into the container before (Kubernetes).

It comes from hubdock's service, by the server's own token, as a tar of files below ``/hubdock/run``. Only the standard library is here, no proxy is used, and no
redirect is followed: the token goes to the service's address and nowhere else.
"""

import http.client
import io
import os
import sys
import tarfile
import time
import urllib.parse

RUN = "/hubdock/run"
PATIENCE = 90.0  # seconds in which a service that restarts is back
TIMEOUT = 30.0
PAUSES = (0.1, 2.0)


class Refused(Exception):
    """The service answered, and asking again would not help."""


def receive(environ, into=RUN, patience=PATIENCE):
    """Fetch and unpack. Raises RuntimeError, which says what to do, if it can't be had."""
    address = urllib.parse.urljoin(environ["HUBDOCK_SERVICE_URL"].rstrip("/") + "/", f"api/launches/{environ['HUBDOCK_BUILD']}/archive")
    address += "?" + urllib.parse.urlencode({"server": environ.get("JUPYTERHUB_SERVER_NAME", "")})
    deadline, pause = time.monotonic() + patience, PAUSES[0]
    while True:
        try:
            unpack(ask(address, environ.get("JUPYTERHUB_API_TOKEN", "")), into)
            return
        except Refused as error:
            raise RuntimeError(f"hubdock's service at {address} refuses to give the start files: {error}. Stop the server, and start it again.") from None
        except (OSError, http.client.HTTPException, tarfile.TarError) as error:
            if time.monotonic() + pause > deadline:
                raise RuntimeError(
                    f"hubdock's service at {address} can't be reached from this server: {error}. An administrator can look at network policies and the service."
                ) from None
        time.sleep(pause)
        pause = min(2 * pause, PAUSES[1])


def ask(address, token):
    """Return the body of one answer. Raises Refused, and OSError for what may be better in a moment."""
    parts = urllib.parse.urlsplit(address)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=TIMEOUT)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers={"Authorization": f"token {token}"})
        answer = connection.getresponse()
        body = answer.read()
    finally:
        connection.close()
    if answer.status == 200:
        return body
    if answer.status >= 500 or answer.status == 429:
        raise OSError(f"{answer.status} {answer.reason}")
    raise Refused(f"{answer.status} {answer.reason}")


def unpack(archive, into):
    """Write the plain files of the archive that belong into the directory, ``start.json`` last: whoever finds it finds the others."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        for member in tar:
            directory, _, name = f"/{member.name}".rpartition("/")
            if member.isfile() and directory == RUN:
                found[name] = tar.extractfile(member).read()
    if "start.json" not in found:
        raise tarfile.ReadError("the start document is missing")
    os.makedirs(into, exist_ok=True)
    for name in sorted(found, key=lambda name: name == "start.json"):
        with open(f"{into}/.{name}.new", "wb") as file:
            file.write(found[name])
        os.rename(f"{into}/.{name}.new", f"{into}/{name}")
    print(f"hubdock: received {len(archive) / 1024:.0f} KiB of start files", file=sys.stderr)
