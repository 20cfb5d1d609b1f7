"""What a server may use: parsed from raw form and REST values, checked against the admin's limits.

CPU is in cores, memory and shared memory in bytes, GPU a count of whole devices. None means: the admin's default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from hubdock.core.errors import GPUUnavailable, InvalidOption

_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_BYTES = re.compile(r"^(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?$", re.IGNORECASE)
MIN_MEMORY = 64 * 1024**2


@dataclass(frozen=True)
class Resources:
    """Cores, bytes, bytes, devices."""

    cpu: float | None = None
    memory: int | None = None
    shm: int | None = None
    gpu: int = 0


@dataclass(frozen=True)
class Limits:
    """The most that one server may ask for, and what it gets unasked. None: unlimited, or the engine's own default."""

    cpu: float | None = None
    memory: int | None = None
    shm: int | None = None
    gpu: int = 0
    default: Resources = field(default_factory=Resources)

    def apply(self, asked: Resources) -> Resources:
        """Return what is asked with the defaults filled in. Raises InvalidOption, which states the limit."""
        default = self.default
        merged = replace(
            asked,
            cpu=default.cpu if asked.cpu is None else asked.cpu,
            memory=default.memory if asked.memory is None else asked.memory,
            shm=default.shm if asked.shm is None else asked.shm,
        )
        _check("cpu", "CPU cores", merged.cpu, self.cpu, "{:g}")
        _check("memory", "memory", merged.memory, self.memory, None)
        _check("shm", "shared memory", merged.shm, self.shm, None)
        if merged.gpu > self.gpu:
            allowed = f"at most {self.gpu} can be asked for" if self.gpu else "this hub offers none"
            raise InvalidOption(f"{merged.gpu} {'GPU was' if merged.gpu == 1 else 'GPUs were'} asked for; {allowed}.", field="gpu")
        if self.cpu is not None and merged.cpu is None:
            merged = replace(merged, cpu=self.cpu)
        if self.memory is not None and merged.memory is None:
            merged = replace(merged, memory=self.memory)
        return merged


def _check(field: str, what: str, asked: float | None, limit: float | None, form: str | None) -> None:
    if asked is not None and limit is not None and asked > limit:
        shown = [form.format(value) if form else format_bytes(int(value)) for value in (asked, limit)]
        shown = [f"{value} bytes" for value in (asked, limit)] if shown[0] == shown[1] else shown
        raise InvalidOption(f"{shown[0]} {what} were asked for; the limit is {shown[1]}.", field=field)


def parse_cpu(raw: object) -> float | None:
    """Return cores from ``2``, ``"0.5"`` or nothing. Raises InvalidOption."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise InvalidOption("CPU must be a number of cores, for example 2 or 0.5.", field="cpu")
    try:
        value = float(raw) if not isinstance(raw, str) or "_" not in raw else math.nan
    except (ValueError, OverflowError) as error:
        raise InvalidOption("CPU must be a number of cores, for example 2 or 0.5.", field="cpu") from error
    if not math.isfinite(value) or not 0.01 <= value <= 4096:
        raise InvalidOption("CPU must be between 0.01 and 4096 cores.", field="cpu")
    return value


def parse_bytes(raw: object, field: str = "memory") -> int | None:
    """Return bytes from ``"4G"``, ``"512M"``, ``"1.5 GiB"``, an integer, or nothing. Units are powers of 1024. Raises InvalidOption."""
    if raw is None or raw == "":
        return None
    match = _BYTES.match(str(raw).strip()) if isinstance(raw, (int, str)) and not isinstance(raw, bool) else None
    if match is None or len(match[1]) > 20:
        raise InvalidOption(f"{field.capitalize()} must be a size such as 512M or 4G.", field=field)
    value = int(float(match[1]) * _UNITS[match[2].upper()])
    if field == "memory" and value < MIN_MEMORY:
        raise InvalidOption(f"Memory must be at least {format_bytes(MIN_MEMORY)}.", field=field)
    if value > 1024**5:
        raise InvalidOption(f"{field.capitalize()} of {format_bytes(value)} is more than any machine has.", field=field)
    return value


def parse_gpu(raw: object) -> int:
    """Return a count of devices from ``1``, ``"2"`` or nothing. Raises InvalidOption."""
    if raw is None or raw == "":
        return 0
    if isinstance(raw, float) and raw.is_integer() and abs(raw) < 1024:
        raw = int(raw)
    text = str(raw).strip() if isinstance(raw, (int, str)) and not isinstance(raw, bool) else ""
    if not re.fullmatch(r"[0-9]{1,3}", text):
        raise InvalidOption("GPU must be a whole number of devices, 0 or more.", field="gpu")
    return int(text)


def format_bytes(count: int) -> str:
    """Return ``1.5G``, ``512M``, ``17K`` or ``12 bytes``: units are powers of 1024, at most one decimal."""
    for unit in ("T", "G", "M", "K"):
        if count >= _UNITS[unit]:
            return f"{round(count / _UNITS[unit], 1):g}{unit}"
    return f"{count} bytes"


def choose_devices(devices: Sequence[str], taken: Collection[str], count: int) -> list[str]:
    """Return ``count`` of the devices that nobody holds, in the admin's order.

    Raises GPUUnavailable, which says how many there are and how many are free.
    """
    free = [device for device in devices if device not in taken]
    if len(free) < count:
        total = len(devices)
        raise GPUUnavailable(
            f"{count} {'GPU was' if count == 1 else 'GPUs were'} asked for; {len(free)} of {total} {'is' if len(free) == 1 else 'are'} free. "
            "Try again when another server has stopped, or start without a GPU.",
            field="gpu",
        )
    return free[:count]
