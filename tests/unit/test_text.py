"""Text from strangers, made safe to show."""

from __future__ import annotations

import json
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.text import MAX_LINE, make_lines, make_plain, make_tail, redact

PLAIN_JS = Path(__file__).parent.parent.parent / "hubdock" / "service" / "static" / "plain.js"


PLAIN = [
    ("hello", "hello"),
    ("tab\tstays", "tab\tstays"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[1;38;5;196mbold\x1b[K", "bold"),
    ("\x1b]0;title\x07text", "text"),
    ("\x1b]8;;https://evil.example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1b]0;never ended", ""),
    ("a\x1bcb", "a cb"),
    ("a\x1b(Bb", "ab"),
    ("\x1b", ""),
    ("bell\x07 null\0 del\x7f", "bell  null  del"),
    ("a\nb", "a b"),
    ("a\u2028b\u2029c\x85d", "a b c d"),
    ("user\u202egnp.exe", "user\ufffdgnp.exe"),
    ("\u2066isolate\u2069 \u200emark\u061c", "\ufffdisolate\ufffd \ufffdmark\ufffd"),
    ("ma\u200bin ma\u200din \ufeffmain ma\u00adin\U000e0041", "ma\ufffdin ma\ufffdin \ufffdmain ma\ufffdin\ufffd"),
    ("\u0645\u06cc\u200c\u062e 👩\u200d💻", "\u0645\u06cc\u200c\u062e 👩\u200d💻"),  # joiners that belong to the script
    ("lone \ud800 surrogate", "lone   surrogate"),
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),  # escaped where it is shown, not here
    ("ünï😀", "ünï😀"),
    ("trailing   ", "trailing"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "plain"), PLAIN)
def test_plain(text: str, plain: str) -> None:
    assert make_plain(text) == plain


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_the_browser_shows_the_same() -> None:
    """plain.js, which the pages' scripts use, agrees with make_plain on each of these, and cuts where it cuts."""
    texts = [text for text, _ in PLAIN] + ["x" * 3000, "😀" * 3000, "\x1b[31m" * 900 + "red"]
    script = f"import {{ plain }} from {json.dumps(PLAIN_JS.as_uri())}; console.log(JSON.stringify({json.dumps(texts)}.map((text) => plain(text, 2000))));"
    run = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(run.stdout) == [make_plain(text) for text in texts]


def test_long_lines_are_cut() -> None:
    assert make_plain("x" * MAX_LINE) == "x" * MAX_LINE
    assert make_plain("x" * 10**6) == "x" * MAX_LINE + "…"
    assert make_plain("abcdef", 3) == "abc…"


@given(st.text(st.characters(), max_size=60) | st.text("\x1b[];\\m0a\x07\x9b\r\n\u202e\u200b\u200d\U000e0041é", max_size=30), st.integers(1, 30))
def test_nothing_harmful_is_left(text: str, limit: int) -> None:
    plain = make_plain(text, limit)
    assert len(plain) <= limit + 1
    assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} and c != "\t" for c in plain)
    assert not any(unicodedata.category(c) == "Cf" and c.isascii() for c in plain) and not set(plain) & set("\u200b\u2060\ufeff\u00ad\U000e0041")
    assert make_plain(plain, limit + 1) == plain, "once is enough"
    assert not any(unicodedata.bidirectional(c) in {"RLO", "LRO", "RLE", "LRE", "PDF", "RLI", "LRI", "FSI", "PDI"} for c in plain)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b", ""]),
        ("10%\r50%\r100%", ["100%"]),
        ("10%\r50%\r100%\r\ndone", ["100%", "done"]),
        ("\x1b[2K\rready", ["ready"]),
        ("", [""]),
    ],
)
def test_lines_as_a_terminal_shows_them(text: str, lines: list[str]) -> None:
    assert make_lines(text) == lines


@pytest.mark.parametrize(
    ("text", "secrets", "safe"),
    [
        ("https://user:pa55@example.org/x", [], "https://***@example.org/x"),
        ("https://pa55@example.org/x", [], "https://***@example.org/x"),
        ("https://user:p@ss@w0rd@example.org/x", [], "https://***@example.org/x"),
        ("from git+https://u:p@a.org and ssh://git@b.org", [], "from git+https://***@a.org and ssh://***@b.org"),
        ("fatal: 'https://u:p@a.org/x' failed", [], "fatal: 'https://***@a.org/x' failed"),
        ("https://a.org/@scope/x mail@b.org", [], "https://a.org/@scope/x mail@b.org"),
        ("token pa55 and pa55!", ["pa55"], "token *** and ***!"),
        ("nothing", ["", "x" * 9], "nothing"),
    ],
)
def test_redact(text: str, secrets: list[str], safe: str) -> None:
    assert redact(text, secrets) == safe


def test_tail() -> None:
    output = "first\n" + "\n".join(f"line {n}\n  " for n in range(30)) + "\n\n\x1b[31mlast\x1b[0m\n\n"
    assert make_tail(output, 3) == "line 28\nline 29\nlast"
    assert make_tail("") == ""
