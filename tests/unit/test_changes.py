"""How a change of requirements is told."""

from __future__ import annotations

import pytest

from hubdock.core.changes import explain_lines

R = "requirements.txt"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ([], ["xgboost==3.2"], [f"{R}: + xgboost 3.2"]),
        (["foo==1"], [], [f"{R}: - foo 1"]),
        (["numpy==1.26"], ["numpy==2.1"], [f"{R}: numpy 1.26 → 2.1"]),
        (["numpy"], ["NumPy==2.1"], [f"{R}: NumPy any → 2.1"]),
        (["numpy==1.26"], ["numpy>=2,<3"], [f"{R}: numpy 1.26 → <3,>=2"]),
        (["numpy==1.26"], ["numpy"], [f"{R}: numpy 1.26 → any"]),
        (["dvc==3"], ["dvc[s3]==3"], [f"{R}: dvc==3 → dvc[s3]==3"]),
        ([], ["dvc[s3]==3", "torch>=2"], [f"{R}: + dvc[s3]==3", f"{R}: + torch>=2"]),
        (["a==1; python_version<'3'", "a==2; python_version>='3'"], ["a==3"], [f"{R}: + a 3", f"{R}: - a==1; python_version<'3'", f"{R}: - a==2; python_version>='3'"]),
        (["-r old.txt"], ["-r new.txt", "./pkg"], [f"{R}: + -r new.txt", f"{R}: + ./pkg", f"{R}: - -r old.txt"]),
        (["six==1 --hash=sha256:aa"], ["six==2 --hash=sha256:bb"], [f"{R}: six 1 → 2"]),
        (["a==1"], ["a==1"], []),
    ],
)
def test_changes(before: list[str], after: list[str], told: list[str]) -> None:
    assert explain_lines([[R, line] for line in before], [[R, line] for line in after]) == told


def test_the_same_package_in_another_file_is_told_twice() -> None:
    assert explain_lines([["a.txt", "six==1"]], [["b.txt", "six==1"]]) == ["b.txt: + six 1", "a.txt: - six 1"]
