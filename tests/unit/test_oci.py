"""Manifests and configurations as values."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import BackendError
from hubdock.core.oci import (
    CONFIG,
    LAYER,
    MANIFEST,
    Changes,
    Descriptor,
    NewLayer,
    find_platform,
    is_digest,
    make_config,
    make_digest,
    make_manifest,
    parse_manifest,
)
from hubdock.drivers.oci_auth import parse_challenge

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
NEW = NewLayer(Descriptor(f"{LAYER}+zstd", C, 10), B, "hubdock: the code")
BASE: dict[str, Any] = {
    "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z", "author": "team", "rootfs": {"type": "layers", "diff_ids": [A]}, "history": [{"created_by": "RUN x"}],
    "config": {"Env": ["PATH=/bin:/x", "EMPTY=", "A=1=2"], "Labels": {"old": "1", "kept": "2"}, "WorkingDir": "/", "Entrypoint": ["tini", "--"], "Cmd": ["sh"], "User": "1000:100"},
}  # fmt: skip


def test_what_an_image_gets() -> None:
    before = copy.deepcopy(BASE)
    changes = Changes(env={"A": "3", "NEW": "x", "BUT": "y"}, labels={"old": "9", "more": "8"}, workdir="/home/jovyan/work", command=["python", "start.py"])
    made = json.loads(make_config(BASE, changes, [NEW]))
    assert before == BASE
    assert made == {
        **BASE, "created": "1970-01-01T00:00:00Z", "rootfs": {"type": "layers", "diff_ids": [A, B]},
        "history": [{"created_by": "RUN x"}, {"created": "1970-01-01T00:00:00Z", "created_by": "hubdock: the code"}],
        "config": {
            "Env": ["PATH=/bin:/x", "EMPTY=", "A=3", "BUT=y", "NEW=x"], "Labels": {"old": "9", "kept": "2", "more": "8"}, "WorkingDir": "/home/jovyan/work",
            "Entrypoint": ["tini", "--"], "Cmd": ["python", "start.py"], "User": "1000:100",
        },
    }  # fmt: skip


def test_what_is_not_given_stays() -> None:
    made = json.loads(make_config(BASE, Changes(), []))
    assert made["config"] == BASE["config"] and made["rootfs"] == BASE["rootfs"]
    assert json.loads(make_config(BASE, Changes(entrypoint=[]), []))["config"]["Entrypoint"] == []


def test_a_bare_configuration_will_do() -> None:
    made = json.loads(make_config({"rootfs": {"diff_ids": []}, "config": {"Env": None, "Labels": None}}, Changes(env={"A": "1"}), [NEW]))
    assert made["config"] == {"Env": ["A=1"], "Labels": {}} and made["rootfs"]["diff_ids"] == [B]


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_same_is_the_same_bytes_in_any_order(labels: dict[str, str], env: dict[str, str]) -> None:
    turned = Changes(env=dict(reversed(env.items())), labels=dict(reversed(labels.items())))
    assert make_config(BASE, Changes(env=env, labels=labels), [NEW]) == make_config(BASE, turned, [NEW])


def test_a_manifest_is_always_oci() -> None:
    content = make_manifest(b"{}", [Descriptor(f"{LAYER}+gzip", A, 3, (("note", "x"),)), NEW.descriptor])
    assert json.loads(content) == {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, "digest": make_digest(b"{}"), "size": 2},
        "layers": [
            {"mediaType": f"{LAYER}+gzip", "digest": A, "size": 3, "annotations": {"note": "x"}},
            {"mediaType": f"{LAYER}+zstd", "digest": C, "size": 10},
        ],
    }  # fmt: skip
    read = parse_manifest(content)
    assert read.digest == make_digest(content) and read.layers[1] == NEW.descriptor and read.layers[0].annotations == (("note", "x"),)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"[" * 100_000, b'"x"', b'{"config": 1, "layers": []}', b'{"config": {}, "layers": []}',
        # what only another host has, what is no layer, a digest of another kind
        json.dumps({"config": Descriptor(CONFIG, A, 1).as_dict(), "layers": [{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": B, "size": 1}]}).encode(),
        json.dumps({"config": Descriptor(CONFIG, A, 1).as_dict(), "layers": [{"mediaType": "application/vnd.in-toto+json", "digest": B, "size": 1}]}).encode(),
        json.dumps({"config": Descriptor(CONFIG, "sha512:" + "a" * 128, 1).as_dict(), "layers": []}).encode(),
        json.dumps({"config": {**Descriptor(CONFIG, A, 1).as_dict(), "size": "many"}, "layers": []}).encode(),
    ],
    ids=range(11),
)  # fmt: skip
def test_a_manifest_that_is_none(content: bytes) -> None:
    with pytest.raises(BackendError, match="Tell an administrator"):
        parse_manifest(content)


def test_platforms() -> None:
    entries = [
        {"digest": A, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}}, {"digest": B, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": C, "platform": {"os": "unknown", "architecture": "unknown"}}, {"digest": "../../x", "platform": {"os": "windows", "architecture": "amd64"}}, {},
    ]  # fmt: skip
    assert [find_platform({"manifests": entries}, name) for name in ("linux/arm64", "linux/amd64", "windows/amd64", "linux")] == [A, B, "", ""]
    assert find_platform({}, "linux/amd64") == ""


@pytest.mark.parametrize("text", ["sha256:" + "A" * 64, "sha256:" + "a" * 63, "sha512:" + "a" * 128, "sha256:" + "a" * 64 + "\n", "", "latest"])
def test_what_is_no_digest(text: str) -> None:
    assert not is_digest(text)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Basic realm="x"', ("basic", {"realm": "x"})),
        ('Bearer realm="https://a/b?c=d",service="x y",scope="repository:a/b:pull,push"', ("bearer", {"realm": "https://a/b?c=d", "service": "x y", "scope": "repository:a/b:pull,push"})),
        ("bearer Realm=https://a , service = x", ("bearer", {"realm": "https://a", "service": "x"})),
        (r'Bearer realm="a\"b"', ("bearer", {"realm": 'a"b'})),
        ("", ("", {})), ("Negotiate", ("negotiate", {})),
    ],
)  # fmt: skip
def test_challenges(header: str, found: tuple[str, dict[str, str]]) -> None:
    assert parse_challenge(header) == found


@given(st.text())
def test_any_challenge_is_read(header: str) -> None:
    scheme, parameters = parse_challenge(header)
    assert scheme == scheme.lower() and all(name == name.lower() for name in parameters)
