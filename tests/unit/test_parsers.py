"""The parsers of strangers' text, by property: whatever comes in, out comes a value or the documented error, and what is accepted has one form.

What one parser alone promises is tried in that parser's own file; here are the promises that they share, over any text, and not only over likely one.
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import string
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubdock.core.apt import parse_apt
from hubdock.core.dvcconfig import parse_config
from hubdock.core.dvcfiles import find_data_files, parse_data_files
from hubdock.core.errors import HubDockError, RecipeError, RequestError
from hubdock.core.options import FIELDS, flatten_form, parse_options
from hubdock.core.progress import JSONStream, Solve
from hubdock.core.project import parse_project
from hubdock.core.recipe import MissingBlobs, make_recipe
from hubdock.core.refs import make_short, parse_new_branch, parse_ref
from hubdock.core.repo import parse_repo_url
from hubdock.core.requirements import parse_requirements
from hubdock.core.text import redact
from hubdock.core.tree import Tree
from hubdock.core.yamlfile import load_yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)

# --- addresses ---

HOSTS = st.sampled_from(["github.com", "GitHub.COM.", "10.0.0.1", "[2001:db8::1]", "bücher.example", "xn--bcher-kva.example", "0x7f000001", "127.1", "a_b.org", "-a.org", "ⓖithub.com"])
ADDRESSES = st.builds(
    "{}{}{}{}/{}{}".format,
    st.sampled_from(["https://", "HTTPS://", "ssh://", "http://", "git://", "file://", "https:/", "ext::"]),
    st.sampled_from(["", "git@", "user:tok@", ":tok@", "tok@", "a%40b@"]),
    HOSTS | st.text(string.printable, max_size=8),
    st.sampled_from(["", ":22", ":0443", ":0", ":65536", ":x", ":"]),
    st.text("ab./-%2eE~@:", max_size=12),
    st.sampled_from(["", ".git", "/", "?q", "#f", "\n", " "]),
)


@given(ADDRESSES | st.text(max_size=60))
@example("https://user:tok@github.com/a/b")
def test_an_address_names_the_host_that_was_typed(text: str) -> None:
    """No credential survives, and no other host can come out of it than the one that can be read in it."""
    try:
        repo = parse_repo_url(text)
    except RequestError as error:
        assert error.field == "repo" and "tok" not in error.message.replace("token", "")
        return
    assert repo == parse_repo_url(repo.url) and repo.canonical == parse_repo_url(repo.url).canonical
    assert ":" not in repo.user and (not repo.user or repo.scheme == "ssh")
    typed = text.strip(" \t").partition("://")[2] or text
    typed = typed.split("/")[0].rpartition("@")[2]
    shown = typed.lower().encode("idna").decode() if not typed.isascii() else typed.lower()
    assert shown.startswith((repo.host, f"[{repo.host}]")) or ":" in repo.host, (text, repo)
    assert not repo.host.replace(".", "").isdigit() or repo.host in text, "a number is the address that it looks like"


@given(st.text(max_size=20), st.text("ab/.-@{}~^:?*[\\ \0é", max_size=12))
def test_a_ref_has_one_form(any_text: str, likely: str) -> None:
    for text in (any_text, likely, f"refs/heads/{likely}", f"refs/tags/{likely}"):
        for parse in (parse_ref, parse_new_branch):
            try:
                name = parse(text)
            except RequestError as error:
                assert error.field in {"ref", "new_branch"}
                continue
            assert parse(name) == name and name in text and not make_short(name).startswith("-")


@given(st.dictionaries(st.sampled_from([*FIELDS, "image", "commit", "x"]) | st.text(max_size=4), JSON, max_size=5) | JSON)
def test_options_are_a_choice_or_a_refusal(raw: Any) -> None:
    with contextlib.suppress(RequestError):
        parse_options(raw)
    good = {"repo": "https://github.com/a/b", "ref": "main"}
    with contextlib.suppress(RequestError):
        chosen = parse_options({**raw, **good} if isinstance(raw, dict) else good)
        assert parse_options(json.loads(json.dumps(chosen.as_dict()))) == chosen


@given(st.dictionaries(st.sampled_from([*FIELDS, "_xsrf"]), st.lists(st.text(max_size=6), max_size=3), max_size=5))
def test_a_form_is_flattened_or_refused(form: dict[str, list[str]]) -> None:
    try:
        values = flatten_form(form)
    except RequestError as error:
        assert len(form[str(error.field)]) > 1
        return
    assert set(values) <= set(FIELDS) and all(value and value in form[name][0] for name, value in values.items())


@given(st.text("ab:@/ '\n", max_size=20), st.text(string.ascii_letters, min_size=6, max_size=9))
def test_what_leaves_has_no_user_part(text: str, secret: str) -> None:
    shown = redact(f"{text} https://u:{secret}@host/x {secret}", [secret])
    assert secret not in shown and shown == redact(shown, [secret])


# --- files of a repository ---


def make_tree(files: dict[str, bytes], modes: dict[str, str] | None = None) -> Tree:
    """Return a tree of these files and their directories; ``modes`` says which are no plain files."""
    entries = {path: (modes or {}).get(path, "100644") for path in files}
    for path in files:
        parent = posixpath.dirname(path)
        while parent:
            entries[parent] = "040000"
            parent = posixpath.dirname(parent)
    kinds = {"040000": "tree", "160000": "commit"}
    lines = [f"{mode} {kinds.get(mode, 'blob')} {number:040x}\t{path}\0" for number, (path, mode) in enumerate(sorted(entries.items()), 1)]
    return Tree("f" * 40, "".join(lines).encode())


BYTES = st.binary(max_size=60) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
PARSERS = {
    "requirements": parse_requirements, "apt": parse_apt, "yaml": load_yaml, "config": lambda path, content: parse_config(".", path, content, []),
    "project": lambda _, content: parse_project(content),
}  # fmt: skip


@pytest.mark.parametrize("name", PARSERS)
@given(content=BYTES)
@example(content=b"\xef\xbb\xbf\xff")
@example(content=b"a: !!binary x\n? [b]\n: *c")
@example(content=b"!!timestamp 9999-99-99")
@example(content=b"- !!int 0x\n")
def test_any_bytes_are_read_or_refused_with_their_file(name: str, content: bytes) -> None:
    try:
        PARSERS[name]("sub/file", content)  # type: ignore[operator]
    except RecipeError as error:
        assert error.file in {"sub/file", ".hubdock.yml"} and error.message
        assert error.line is None or 1 <= error.line <= len(content.decode("utf-8", "replace").splitlines()) + 1


PATHS = ["requirements.txt", "env/dev.txt", "env/base.txt", "pkg/setup.py", "link.txt", "sub"]
LINES = st.builds(
    "{}{}".format,
    st.sampled_from(["-r ", "-c ", "-e ", "--requirement=", "--constraint ", "--find-links ", "", "x @ ", "-r=", "-r"]),
    st.sampled_from([*PATHS, *(f"../{path}" for path in PATHS), "./pkg", ".", "..", "/etc/shadow", "~/x", "file:///etc/shadow", "env/../../x", "six==1", "https://a.org/x.whl"])
    | st.text("./ae\\~:$", max_size=8),
)
FILES = st.fixed_dictionaries({path: st.lists(LINES, max_size=3).map("\n".join) for path in PATHS[:3]})


@given(FILES)
def test_a_closure_never_leaves_the_repository(texts: dict[str, str]) -> None:
    """Every file that would be read is a plain file or a directory of the tree, whatever the lines say."""
    files = {path: text.encode() for path, text in texts.items()} | {"pkg/setup.py": b"", "link.txt": b"/etc/shadow", "sub": b""}
    tree = make_tree(files, {"link.txt": "120000", "sub": "160000"})
    blobs: dict[str, bytes] = {}
    for _ in range(10):
        try:
            recipe = make_recipe(tree, blobs)
        except MissingBlobs as missing:
            assert set(missing.paths) <= set(files) - {"link.txt", "sub"}
            blobs |= {path: files[path] for path in missing.paths}
            continue
        except RecipeError as error:
            assert error.file in files, error
            return
        found = [tree.find(entry.path) for entry in recipe.files]
        assert [entry for entry in recipe.files] == found
        assert all(entry is not None and (entry.is_file or entry.kind == "tree") for entry in found)
        return
    raise AssertionError("it asks for ever")


TOML = st.sampled_from(["package", "project", "source", "[[package]]", "[package]", "= 3", "= []", "= [1]", "= {a=1}", "source = {path='../x'}", "source = 3", "name = []", "dependencies = ['x']", "\n", "[project]"])


@given(st.lists(TOML, max_size=6).map("\n".join) | st.text(max_size=20), st.lists(TOML, max_size=5).map("\n".join))
@example("package = 3", "")
@example("package = [3]", "project = 3")
def test_any_lock_is_read_or_refused(lock: str, manifest: str) -> None:
    for files in ({"uv.lock": lock, "pyproject.toml": manifest}, {"pyproject.toml": manifest}, {"uv.lock": lock}):
        with contextlib.suppress(RecipeError):
            make_recipe(make_tree({path: b"" for path in files}), {path: text.encode() for path, text in files.items()})


OUT = st.fixed_dictionaries({}, optional={
    "md5": st.sampled_from(["0" * 32, "0" * 32 + ".dir", "x", 3, None, ["a"]]), "path": st.sampled_from(["a", "../a", "/etc/x", "a/../../b", ".", "", "s3://x/y", ".git/x", 3, None]),
    "hash": JSON, "size": JSON, "isexec": JSON, "remote": JSON, "cache": JSON, "push": JSON,
})  # fmt: skip
DVC = st.fixed_dictionaries({}, optional={"outs": st.lists(OUT | JSON, max_size=3) | JSON, "deps": st.lists(JSON | st.just({"repo": {}}), max_size=2) | JSON, "wdir": st.sampled_from([".", "..", "/x", 3])})
STAGES = st.fixed_dictionaries({}, optional={"stages": st.dictionaries(st.sampled_from(["a", "b@1"]), DVC | JSON, max_size=2) | JSON})


@given(DVC | JSON, STAGES | JSON, STAGES | JSON, BYTES)
def test_any_dvc_files_are_read_or_refused(dvc: Any, lock: Any, pipeline: Any, noise: bytes) -> None:
    """Whatever they hold, no output lies outside its project."""
    for content in (None, noise):
        blobs = {f"p/{name}": json.dumps(value).encode() for name, value in {"x.dvc": dvc, "dvc.lock": lock, "dvc.yaml": pipeline}.items()} | {"p/.dvc/config": b"[core]\n"}
        blobs |= {"p/y.dvc": content} if content is not None else {}
        tree = make_tree(blobs)
        assert set(find_data_files(tree)) == set(blobs)
        try:
            data = parse_data_files(tree, blobs)
        except RecipeError as error:
            assert error.file in blobs
            continue
        for out in data.outs:
            assert out.path.startswith("p/") and posixpath.normpath(out.path) == out.path and not {".git", ".dvc", ".."} & set(out.path.split("/"))


# --- progress ---

PIECES = st.sampled_from([b"{", b"}", b'"', b":", b",", b"[", b"]", b"\n", b"\r\n", b" ", b"a", b"1", b"-", b"tru", b"null", b"\\u12", b"\\", b"\xff", b"\xc3", b"\xa9", b'{"a": 1}', b'{"b": [', b"NaN", b"e+"])


def read(chunks: list[bytes]) -> list[Any]:
    stream = JSONStream()
    found = [value for chunk in chunks for value in stream.feed(chunk)]
    return [*found, stream.close()]


@given(st.lists(PIECES, max_size=14).map(b"".join) | st.binary(max_size=30), st.lists(st.integers(1, 6), max_size=20))
def test_progress_is_the_same_however_it_is_cut(data: bytes, sizes: list[int]) -> None:
    """Any bytes at all: the events are those of the whole, and nothing but objects and text comes out."""
    chunks, at = [], 0
    for size in sizes:
        chunks.append(data[at : at + size])
        at += size
    whole = read([data])
    assert repr(read([*chunks, data[at:]])) == repr(whole) == repr(read([data[n : n + 1] for n in range(len(data))]))
    assert all(isinstance(value, (dict, str)) for value in whole)


STATUS = st.fixed_dictionaries({}, optional={
    "vertexes": st.none() | st.lists(st.fixed_dictionaries({}, optional={name: JSON for name in ("digest", "name", "started", "completed", "cached", "error")}), max_size=3),
    "logs": st.none() | st.lists(st.fixed_dictionaries({}, optional={"vertex": JSON, "data": JSON | st.just("aGk=")}), max_size=2),
    "warnings": st.none() | st.lists(st.fixed_dictionaries({}, optional={"short": JSON}) | JSON, max_size=2),
})  # fmt: skip


@given(st.lists(STATUS, max_size=4))
def test_any_status_gives_events(statuses: list[dict[str, Any]]) -> None:
    solve = Solve()
    for status in statuses:
        for kind, text in solve.feed(status):
            assert kind in {"step", "done", "failed", "log", "error"} and isinstance(text, str)
        assert 0 <= solve.percent <= 100
        assert all(seconds >= 0 for seconds in solve.durations.values())


@given(JSON)
def test_every_error_can_be_raised_from_what_a_worker_wrote(values: Any) -> None:
    from hubdock.core.errors import from_dict

    if isinstance(values, dict):
        assert isinstance(from_dict(values), HubDockError)
