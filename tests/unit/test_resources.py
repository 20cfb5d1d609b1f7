"""CPU, memory, shared memory and GPUs: what is understood, and what the admin's limits do to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubdock.core.errors import GPUUnavailable, InvalidOption
from hubdock.core.resources import Limits, Resources, choose_devices, format_bytes, parse_bytes, parse_cpu, parse_gpu

K, M, G, T = 1024, 1024**2, 1024**3, 1024**4


@pytest.mark.parametrize(
    ("raw", "cores"), [(None, None), ("", None), (2, 2.0), ("2", 2.0), ("0.5", 0.5), (0.25, 0.25), (" 4 ", 4.0), (4096, 4096.0), ("1e1", 10.0)]
)
def test_cpu(raw: object, cores: float | None) -> None:
    assert parse_cpu(raw) == cores


@pytest.mark.parametrize(
    "raw", ["two", "NaN", "nan", "inf", "-inf", "-1", -1, 0, "0", "0.001", 4097, 1e9, "1e9", "1e999", 10**400, True, False, [2], {"cpu": 2}, float("nan"), "1_0", "2 cores", "0x2"]
)
def test_no_cpu(raw: object) -> None:
    with pytest.raises(InvalidOption) as caught:
        parse_cpu(raw)
    assert caught.value.field == "cpu" and caught.value.message.startswith("CPU must be")


@pytest.mark.parametrize(
    ("raw", "count"),
    [
        (None, None), ("", None), ("4G", 4 * G), ("4g", 4 * G), ("4GB", 4 * G), ("4GiB", 4 * G), ("1.5 GiB", 3 * G // 2), ("512M", 512 * M), ("1T", T),
        ("65536K", 64 * M), ("67108864", 64 * M), (67108864, 64 * M), (" 4G ", 4 * G), ("0.25G", 256 * M),
    ],
)  # fmt: skip
def test_memory(raw: object, count: int | None) -> None:
    assert parse_bytes(raw) == count


@pytest.mark.parametrize(
    "raw", ["lots", "-1", -1, "-4G", "NaN", "inf", "4X", "4GX", "G", "1e9", "4 4", "4,5G", True, [1], {"a": 1}, 1.5, "9" * 30, "1GG", "0x10"]
)
def test_no_memory(raw: object) -> None:
    with pytest.raises(InvalidOption, match="Memory must be a size such as 512M or 4G") as caught:
        parse_bytes(raw)
    assert caught.value.field == "memory"


@pytest.mark.parametrize(
    ("raw", "field", "words"),
    [("1", "memory", "at least 64M"), ("0", "memory", "at least 64M"), ("63M", "memory", "at least 64M"), ("2000T", "memory", "more than any machine has"), ("2000T", "shm", "more than any machine has")],
)
def test_memory_out_of_range(raw: str, field: str, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        parse_bytes(raw, field)


def test_shared_memory_may_be_small() -> None:
    assert parse_bytes("1M", "shm") == M
    assert parse_bytes("0", "shm") == 0


@pytest.mark.parametrize(("raw", "count"), [(None, 0), ("", 0), (0, 0), (1, 1), ("2", 2), (" 3 ", 3), (2.0, 2), (999, 999)])
def test_gpu(raw: object, count: int) -> None:
    assert parse_gpu(raw) == count


@pytest.mark.parametrize("raw", ["-1", -1, 1e9, "1e9", "NaN", float("nan"), float("inf"), 0.5, "0.5", 1000, "1000", True, False, "all", [1], {"gpu": 1}, "٣", "1\n2"])
def test_no_gpu(raw: object) -> None:
    with pytest.raises(InvalidOption, match="GPU must be a whole number of devices") as caught:
        parse_gpu(raw)
    assert caught.value.field == "gpu"


@given(st.integers(0, 1024**5))
def test_bytes_are_shown_so_that_they_can_be_typed(count: int) -> None:
    shown = format_bytes(count)
    if shown.endswith(" bytes"):
        assert shown == f"{count} bytes" and count < 1024
    else:
        assert parse_bytes(shown, "shm") == pytest.approx(count, rel=0.06)


@pytest.mark.parametrize(("count", "shown"), [(0, "0 bytes"), (1023, "1023 bytes"), (K, "1K"), (17 * K, "17K"), (3 * G // 2, "1.5G"), (64 * M, "64M"), (2 * T, "2T")])
def test_format(count: int, shown: str) -> None:
    assert format_bytes(count) == shown


LIMITS = Limits(cpu=4, memory=8 * G, shm=2 * G, gpu=1, default=Resources(cpu=1, memory=2 * G))


@pytest.mark.parametrize(
    ("limits", "asked", "given"),
    [
        (LIMITS, Resources(), Resources(1, 2 * G)),
        (LIMITS, Resources(4, 8 * G, 2 * G, 1), Resources(4, 8 * G, 2 * G, 1)),
        (LIMITS, Resources(cpu=0.5), Resources(0.5, 2 * G)),
        (Limits(cpu=4, memory=8 * G), Resources(), Resources(4, 8 * G)),  # never without a limit where the admin set one
        (Limits(), Resources(), Resources()),
        (Limits(), Resources(64, 512 * G, 64 * G), Resources(64, 512 * G, 64 * G)),
        (Limits(default=Resources(shm=M)), Resources(), Resources(shm=M)),
    ],
)
def test_limits(limits: Limits, asked: Resources, given: Resources) -> None:
    assert limits.apply(asked) == given


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        (Resources(cpu=4.5), "cpu", "4.5 CPU cores were asked for; the limit is 4."),
        (Resources(memory=16 * G), "memory", "16G memory were asked for; the limit is 8G."),
        (Resources(memory=8 * G + 1), "memory", "8589934593 bytes memory were asked for; the limit is 8589934592 bytes."),
        (Resources(shm=4 * G), "shm", "4G shared memory were asked for; the limit is 2G."),
        (Resources(gpu=2), "gpu", "2 GPUs were asked for; at most 1 can be asked for."),
    ],
)
def test_over_a_limit_is_refused_with_the_limit_stated(asked: Resources, field: str, words: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        LIMITS.apply(asked)
    assert (caught.value.message, caught.value.field, caught.value.status) == (words, field, 400)


def test_a_gpu_where_there_is_none() -> None:
    with pytest.raises(InvalidOption, match="1 GPU was asked for; this hub offers none"):
        Limits().apply(Resources(gpu=1))


DEVICES = ["nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=2"]


@pytest.mark.parametrize(
    ("taken", "count", "chosen"),
    [([], 1, DEVICES[:1]), (DEVICES[:1], 1, DEVICES[1:2]), (DEVICES[1:2], 2, [DEVICES[0], DEVICES[2]]), ([], 3, DEVICES), (DEVICES, 0, [])],
)
def test_devices_are_given_to_one_server_each(taken: list[str], count: int, chosen: list[str]) -> None:
    assert choose_devices(DEVICES, taken, count) == chosen


@pytest.mark.parametrize(
    ("taken", "count", "words"),
    [
        (DEVICES, 1, "1 GPU was asked for; 0 of 3 are free."),
        (DEVICES[:2], 2, "2 GPUs were asked for; 1 of 3 is free."),
        ([], 4, "4 GPUs were asked for; 3 of 3 are free."),
    ],
)
def test_no_device_left(taken: list[str], count: int, words: str) -> None:
    with pytest.raises(GPUUnavailable) as caught:
        choose_devices(DEVICES, taken, count)
    assert caught.value.message.startswith(words) and "Try again" in caught.value.message
    assert (caught.value.status, caught.value.field) == (503, "gpu")


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.lists(st.integers(), max_size=2)))
def test_whatever_is_sent_is_understood_or_refused(raw: Any) -> None:
    for parse in (parse_cpu, parse_bytes, parse_gpu):
        try:
            value = parse(raw)
        except InvalidOption:
            continue
        assert value is None or value >= 0
