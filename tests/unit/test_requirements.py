"""Requirement files: every kind of line, what is refused and where, and nothing that uv would see and we would not."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import uv
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from hubdock.core.apt import parse_apt
from hubdock.core.errors import RecipeError
from hubdock.core.requirements import LineKind, RequirementLine, decode_text, parse_requirements, pin_git, resolve_path, split_git

K = LineKind
SHA = "a" * 40


def parse(text: str | bytes, path: str = "requirements.txt") -> list[RequirementLine]:
    return parse_requirements(path, text if isinstance(text, bytes) else text.encode())


def line(kind: LineKind, text: str, name: str = "", value: str = "", pinned: bool = False, number: int = 1) -> RequirementLine:
    return RequirementLine(kind, "requirements.txt", number, text, name, value, pinned)


ONE = [
    ("numpy", line(K.PACKAGE, "numpy", "numpy")),
    ("NumPy_X.y", line(K.PACKAGE, "NumPy_X.y", "numpy-x-y")),
    ("numpy==1.26.4", line(K.PACKAGE, "numpy==1.26.4", "numpy", "==1.26.4", True)),
    ("numpy===1.26", line(K.PACKAGE, "numpy===1.26", "numpy", "===1.26", True)),
    ("numpy==1.26.*", line(K.PACKAGE, "numpy==1.26.*", "numpy", "==1.26.*", False)),
    ("numpy>=1.2,<2", line(K.PACKAGE, "numpy>=1.2,<2", "numpy", "<2,>=1.2", False)),
    ("dvc[s3,http]>=3 ; python_version<'4'", line(K.PACKAGE, "dvc[s3,http]>=3 ; python_version<'4'", "dvc", ">=3")),
    ("numpy==1 --hash=sha256:aa --hash sha256:bb", line(K.PACKAGE, "numpy==1 --hash=sha256:aa --hash sha256:bb", "numpy", "==1", True)),
    ("  numpy  # the best", line(K.PACKAGE, "numpy", "numpy")),
    ("https://a.org/six-1.16-py3-none-any.whl", line(K.URL, "https://a.org/six-1.16-py3-none-any.whl", "six", "https://a.org/six-1.16-py3-none-any.whl")),
    ("https://a.org/x.zip#sha256=aa", line(K.URL, "https://a.org/x.zip#sha256=aa", "", "https://a.org/x.zip#sha256=aa", True)),
    ("https://a.org/x.zip --hash=sha256:aa", line(K.URL, "https://a.org/x.zip --hash=sha256:aa", "", "https://a.org/x.zip", True)),
    ("https://a.org/six-1.0.tar.gz ; sys_platform=='linux'", line(K.URL, "https://a.org/six-1.0.tar.gz ; sys_platform=='linux'", "six", "https://a.org/six-1.0.tar.gz")),
    ("six @ https://a.org/s.zip", line(K.URL, "six @ https://a.org/s.zip", "six", "https://a.org/s.zip")),
    ("six[x]@https://a.org/s.zip#sha256=aa", line(K.URL, "six[x]@https://a.org/s.zip#sha256=aa", "six", "https://a.org/s.zip#sha256=aa", True)),
    (f"git+https://a.org/x.git@{SHA}", line(K.GIT, f"git+https://a.org/x.git@{SHA}", "", f"https://a.org/x.git@{SHA}", True)),
    ("x[e] @ git+https://a.org/x@main", line(K.GIT, "x[e] @ git+https://a.org/x@main", "x", "https://a.org/x@main")),
    ("git+https://a.org/x.git@main#egg=X_y", line(K.GIT, "git+https://a.org/x.git@main#egg=X_y", "x-y", "https://a.org/x.git@main#egg=X_y")),
    (f"x @ git+https://a.org/x@{SHA}", line(K.GIT, f"x @ git+https://a.org/x@{SHA}", "x", f"https://a.org/x@{SHA}", True)),
    ("-e git+https://a.org/x#egg=x", line(K.GIT, "-e git+https://a.org/x#egg=x", "x", "https://a.org/x#egg=x")),
    ("-e .", line(K.LOCAL, "-e .", value=".")),
    ("-e .[dev,test]", line(K.LOCAL, "-e .[dev,test]", value=".")),
    ("--editable=./pkg", line(K.LOCAL, "-e ./pkg", value="pkg")),
    ("./pkg/", line(K.LOCAL, "./pkg/", value="pkg")),
    ("pkg/sub", line(K.LOCAL, "pkg/sub", value="pkg/sub")),
    ("./pkg ; python_version>'3'", line(K.LOCAL, "./pkg ; python_version>'3'", value="pkg")),
    ("pkg @ ./pkg", line(K.LOCAL, "pkg @ ./pkg", "pkg", "pkg")),
    ("wheels/six-1.16-py3-none-any.whl", line(K.LOCAL, "wheels/six-1.16-py3-none-any.whl", value="wheels/six-1.16-py3-none-any.whl")),
    ("six-1.16-py3-none-any.whl", line(K.LOCAL, "six-1.16-py3-none-any.whl", value="six-1.16-py3-none-any.whl")),
    ("-r more.txt", line(K.INCLUDE, "-r more.txt", value="more.txt")),
    ("--requirement=./a/../more.txt", line(K.INCLUDE, "--requirement=./a/../more.txt", value="more.txt")),
    ('-r "with space.txt"', line(K.INCLUDE, '-r "with space.txt"', value="with space.txt")),
    ("-c pins.txt", line(K.CONSTRAINT, "-c pins.txt", value="pins.txt")),
    ("--constraint pins.txt", line(K.CONSTRAINT, "--constraint pins.txt", value="pins.txt")),
    ("-i https://a.org/simple", line(K.INDEX, "-i https://a.org/simple", value="https://a.org/simple")),
    ("--index-url=https://a.org/simple/", line(K.INDEX, "--index-url=https://a.org/simple/", value="https://a.org/simple/")),
    ("--extra-index-url https://a.org/simple", line(K.INDEX, "--extra-index-url https://a.org/simple", value="https://a.org/simple")),
    ("-f https://a.org/wheels.html", line(K.LINKS, "-f https://a.org/wheels.html", value="https://a.org/wheels.html")),
    ("--find-links ./wheels", line(K.LINKS, "--find-links ./wheels", value="wheels")),
    *((text, line(K.OPTION, text, value=text)) for text in ("--pre", "--prefer-binary", "--require-hashes", "--no-index")),
    ("--no-binary :all:", line(K.OPTION, "--no-binary :all:", value="--no-binary")),
    ("--only-binary=:all:", line(K.OPTION, "--only-binary=:all:", value="--only-binary")),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE, ids=[text for text, _ in ONE])
def test_each_kind_of_line(text: str, expected: RequirementLine) -> None:
    assert parse(text) == [expected]


MANY = [
    ("", []),
    ("\n\n  \n# only comments\n   # more\n", []),
    ("\ufeffnumpy\r\npandas\rsix\n", [(1, "numpy"), (2, "pandas"), (3, "six")]),
    ("numpy \\\n  ==1.26 \\\n  --hash=sha256:aa\nsix", [(1, "numpy   ==1.26   --hash=sha256:aa"), (4, "six")]),
    ("numpy\\\n\\\n\nsix", [(1, "numpy"), (4, "six")]),
    ("numpy \\\n# comment\nsix", [(1, "numpy"), (3, "six")]),
    ("numpy # comment \\\nsix", [(1, "numpy"), (2, "six")]),
    ("# comment \\\nsix", [(2, "six")]),
    ("numpy\\", [(1, "numpy")]),
    ("numpy\n\n\nsix#egg\n", None),
    ("# a\x0b-r missing.txt\nsix", [(2, "six")]),
    ("# a\u2028-r missing.txt\nsix", [(2, "six")]),
]


@pytest.mark.parametrize(("text", "lines"), MANY, ids=[repr(text) for text, _ in MANY])
def test_lines_continuation_and_comments(text: str, lines: list[tuple[int, str]] | None) -> None:
    if lines is None:
        with pytest.raises(RecipeError):
            parse(text)
        return
    assert [(found.line, found.text) for found in parse(text)] == lines


BAD = [
    ("--trusted-host a.org", "switch off a check"),
    ("--no-such-option x", "--no-such-option is not supported"),
    ("--use-feature=fast-deps", "not supported"),
    ("-v", "-v is not supported"),
    ("-", "not supported"),
    ("--", "not supported"),
    ("-r", "-r needs a value"),
    ("--index-url=", "needs a value"),
    ("-rmore.txt", "Write a space after -r"),
    ("-e.", "Write a space after -e"),
    ("--pre -i https://a.org/simple", "--pre stands alone"),
    ("--require-hashes -r more.txt", "--require-hashes stands alone"),
    ("-i https://a.org/simple --extra-index-url https://evil.org/", "must be an address"),
    ("-i ./simple", "must be an address"),
    ("-i /srv/simple", "must be an address"),
    ("-i file:///srv/simple", "must be an address"),
    ("-i http:/evil.org/simple", "must be an address"),
    ("-i https:evil.org", "must be an address"),
    ("-i https://", "must be an address"),
    ("-i https://[x", "must be an address"),
    ("-i https://evil.org\\@a.org/simple", "must be an address"),
    ("-i https://user:pa55@a.org/simple", "Remove the credential"),
    ("-i https://evil.org#.a.org/simple", "Remove “#”"),
    ("-i https://evil.org?.a.org/simple", "Remove “#”"),
    ("-i https://a.org/ok/../evil", "Remove “#”"),
    ("-i https://a.org/ok/%2e%2e/evil", "Remove “#”"),
    ("-f file:///srv", "must be an address"),
    ("-f https://user:pa55@a.org/x", "Remove the credential"),
    ("-i https://a.\\\norg/simple", "one line"),
    ("-r \\\n more.txt", "one line"),
    ("numpy -r more.txt", "not a requirement that pip understands"),
    ("numpy==", "not a requirement that pip understands"),
    ("numpy pandas", "not a requirement that pip understands"),
    ("numpy --global-option=x", "not a requirement that pip understands"),
    ("numpy==1 --hash=sha256:aa -i https://a.org/simple", "not a requirement that pip understands"),
    ("six @ file:///srv/six", "file: points to a disk"),
    ("six @ FILE:///srv/six", "must be an address"),
    ("six @ ftp://a.org/six.zip", "must be an address"),
    ("six @ https://user:pa55@a.org/s.zip", "Remove the credential"),
    ("https://user:pa55@a.org/s.zip", "Remove the credential"),
    ("https://[x/s.zip", "must be an address"),
    ("git+ssh://git@a.org/x", "Only git+https://"),
    ("git+http://a.org/x", "Only git+https://"),
    ("git+file:///srv/x", "Only git+https://"),
    ("hg+https://a.org/x", "Only git+https://"),
    ("x @ git+git@a.org:x", "Only git+https://"),
    ("git+https://tok@a.org/x", "Remove the credential"),
    ("git+https://user:tok@a.org/x@main", "Remove the credential"),
    ("git+https://a.org/x.git", "Write “name @ git+https://a.org/x.git”"),
    ("git+https://a.org/x@main#subdirectory=y", "Write “name @ git+https://a.org/x@main#subdirectory=y”"),
    ("-e git+https://a.org/x@v1.0", "Write “name @ git+https://a.org/x@v1.0”"),
    (f"git+https://a.org/x@{SHA[:12]}", "needs its name"),
    ("git+https://[x/y", "must be an address"),
    ("-e git+ssh://git@a.org/x", "Only git+https://"),
    ("-r /run/secrets/x", "An absolute path"),
    ("-r ~/x", "An absolute path"),
    ("-r C:\\x", "An absolute path"),
    ("-c ../../x", "leads out of the repository"),
    ("-r a/../../../x", "leads out of the repository"),
    ("-r https://a.org/x.txt", "Only files of the repository"),
    ("-r file:x", "Only files of the repository"),
    ("-e ..", "leads out of the repository"),
    ("-e /srv/x", "An absolute path"),
    ("../x", "leads out of the repository"),
    ("/srv/x.whl", "An absolute path"),
    ("file:./x", "Only files of the repository"),
    ("x @ ../x", "leads out of the repository"),
    ("-f ../../wheels", "leads out of the repository"),
    ("https://a.org/${TOKEN}/x.zip", "A ${VARIABLE}"),
    ("--index-url https://${USER}:${PASS}@a.org/simple", "A ${VARIABLE}"),
    ("numpy==${VERSION}", "A ${VARIABLE}"),
    ("-r ${HOME}/x", "A ${VARIABLE}"),
    ("<script>", "not a requirement that pip understands"),
]


@pytest.mark.parametrize(("text", "words"), BAD, ids=[text for text, _ in BAD])
def test_refused_with_file_and_line(text: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(f"# first\n\n{text}\n", "env/dev.txt")
    assert words in caught.value.message
    assert caught.value.place == "env/dev.txt:3"
    assert "pa55" not in str(caught.value)


def test_what_is_commented_out_is_not_refused() -> None:
    assert parse("# -r /etc/passwd ${X}\nsix # ${Y} --trusted-host\n") == [line(K.PACKAGE, "six", "six", number=2)]


@pytest.mark.parametrize(
    ("content", "number", "words"),
    [
        (b"numpy\npand\xe9s\n", 2, "Byte 5 of this line (0xe9) is not UTF-8"),
        ("numpy\n# größe\n".encode("utf-16"), 1, "Byte 1 of this line (0xff) is not UTF-8"),
        (b"\xffnumpy", 1, "Byte 1 of this line (0xff)"),
        (b"six\n\xc3", 2, "Byte 1 of this line (0xc3)"),
        (b"six\nnum\0py", 2, "NUL byte"),
    ],
)
def test_not_utf8(content: bytes, number: int, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse(content)
    assert words in caught.value.message and caught.value.place == f"requirements.txt:{number}"
    assert "Save" in caught.value.message


def test_too_many_lines() -> None:
    with pytest.raises(RecipeError, match="5001 requirements; at most 5000"):
        parse("six\n" * 5001)


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("env/dev.txt", "-r more.txt", "env/more.txt"),
        ("env/dev.txt", "-c ../pins.txt", "pins.txt"),
        ("env/dev.txt", "-f ./wheels", "env/wheels"),
        # Packages are taken from where the installer runs, which is the root: so do pip and uv.
        ("env/dev.txt", "-e .", "."),
        ("env/dev.txt", "./pkg", "pkg"),
        ("env/dev.txt", "x @ ./pkg", "pkg"),
    ],
)
def test_what_paths_are_relative_to(path: str, text: str, value: str) -> None:
    assert [found.value for found in parse(text, path)] == [value]


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("https://a.org/x.git", ("https://a.org/x.git", "", "")),
        ("https://a.org/x.git@v1", ("https://a.org/x.git", "v1", "")),
        ("https://a.org/x.git@feature/y#egg=x&subdirectory=s", ("https://a.org/x.git", "feature/y", "egg=x&subdirectory=s")),
        ("https://a.org/@scope/x@v1", ("https://a.org/@scope/x", "v1", "")),
        ("https://a.org:8443/x#egg=x", ("https://a.org:8443/x", "", "egg=x")),
    ],
)
def test_git_addresses(value: str, parts: tuple[str, str, str]) -> None:
    assert split_git(value) == parts


@given(st.text(alphabet="abc/.~:\\ -", max_size=20))
def test_no_path_leads_out(target: str) -> None:
    try:
        path = resolve_path("env/dev.txt", 1, target)
    except RecipeError:
        return
    assert not path.startswith(("/", "..")) and "/../" not in path


@given(st.lists(st.text(alphabet="ab -r=.#\\/\n\"'[]@:;,\t", max_size=30), max_size=5).map("\n".join))
def test_any_file_is_read_or_refused(text: str) -> None:
    try:
        lines = parse(text)
    except RecipeError as error:
        assert error.file == "requirements.txt"
        return
    assert all(1 <= found.line <= text.count("\n") + 1 for found in lines)


# --- uv itself as the oracle ---

TRICKS = [
    "-r seen.txt", "  -r seen.txt", "\t-r seen.txt", "\ufeff-r seen.txt", "six # x \\\n-r seen.txt", "# x \\\n-r seen.txt", "six \\\n# x\n-r seen.txt",
    "six \\\n-r seen.txt", "six\r-r seen.txt", "six\x0b-r seen.txt", "six\x0c\n-r seen.txt", "# six\x0c-r seen.txt", "# six\x85-r seen.txt",
    "# six\u2028-r seen.txt", "six;python_version<'3' # \\\n-r seen.txt", "--pre -r seen.txt", "--pre\\\n-r seen.txt", "-e . -r seen.txt", ". -r seen.txt",
    "-i https://a.org/ -r seen.txt", "-i https://a.org/\\\n-r seen.txt", "--no-binary six -r seen.txt", "six --hash=sha256:aa -r seen.txt",
    "six==1 --hash=sha256:aa \\\n-r seen.txt", "--requirement=seen.txt", "-r=seen.txt", "-r 'seen.txt'", "-r seen.txt#x", "-r seen.txt # x", "-c seen.txt",
    "-r\\\nseen.txt", "-r \\\n seen.txt", "six \\ \n-r seen.txt", "six\n\\\n-r seen.txt", "#\\\n\\\n-r seen.txt", "six@https://a.org/#\\\n-r seen.txt",
]  # fmt: skip


@pytest.mark.parametrize("text", TRICKS, ids=[repr(text) for text in TRICKS])
def test_what_uv_follows_is_seen_here(text: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(text + "\n", encoding="utf-8", newline="")
    command = [uv.find_uv_bin(), "pip", "compile", "--quiet", "--offline", "--no-index", "--no-cache", "--no-config", "requirements.txt"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    if not re.search("failed to read from file.*seen.txt", said):
        return  # uv does not follow it
    try:
        lines = parse((tmp_path / "requirements.txt").read_bytes())
    except RecipeError:
        return
    assert [found.value for found in lines if found.kind in {K.INCLUDE, K.CONSTRAINT}] == ["seen.txt"]


# --- apt.txt ---


@pytest.mark.parametrize(
    ("text", "packages"),
    [
        ("", ()),
        ("git\nffmpeg libgl1  git\n# comment\ng++ # the compiler\n", ("ffmpeg", "g++", "git", "libgl1")),
        ("libc6:amd64=2.36-9+deb12u4\r\n", ("libc6:amd64=2.36-9+deb12u4",)),
    ],
)
def test_apt(text: str, packages: tuple[str, ...]) -> None:
    assert parse_apt("apt.txt", text.encode()) == packages


@pytest.mark.parametrize("word", ["-o=Dpkg::x", "--yes", "a;id", "$(id)", "`id`", "a&&b", "x|y", "../deb", "/srv/x.deb", "GIT", "a", "git/stable", "a\\", "git=1;id", "'git'"])
def test_no_apt_package(word: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_apt("binder/apt.txt", f"git\n\nffmpeg {word}\n".encode())
    assert caught.value.place == "binder/apt.txt:3"
    assert word in caught.value.message


def test_apt_not_utf8() -> None:
    with pytest.raises(RecipeError) as caught:
        parse_apt("apt.txt", b"git\n\xff")
    assert caught.value.place == "apt.txt:2"


def test_text_is_decoded_without_its_mark() -> None:
    assert decode_text("x", "\ufeffä".encode()) == "ä"


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        ("x @ git+https://a.org/x@main", f"x @ git+https://a.org/x@{SHA}"),
        ("X_y[e, f]@git+https://a.org/x.git", f"x-y[e, f] @ git+https://a.org/x.git@{SHA}"),
        ("x[e] @ git+https://a.org/x@v1#subdirectory=lib ; python_version>'3'", f"x[e] @ git+https://a.org/x@{SHA}#subdirectory=lib ; python_version>'3'"),
        ("-e git+https://a.org/x@main#egg=x[e]&subdirectory=lib", f"x[e] @ git+https://a.org/x@{SHA}#subdirectory=lib"),
        ("git+https://a.org/x@main#egg=x", f"x @ git+https://a.org/x@{SHA}"),
    ],
)
def test_a_git_requirement_at_its_commit_is_still_all_of_it(text: str, pinned: str) -> None:
    """uv takes an override instead of the whole requirement: one without the extras would leave their packages out."""
    (line,) = parse_requirements("requirements.txt", text.encode())
    assert pin_git(line, SHA) == pinned
    assert Requirement(pinned).name == line.name
