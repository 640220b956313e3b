"""Speed settings: measured once on the user's machine, stored, and written into every record.

The labels depend on the profile in the last digits, so the plugin and the command line share it.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import uuid4

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.registry.home import data_home

if TYPE_CHECKING:
    from napari_genselfdiff.backbone.heads import Segmenter

Precision = Literal["fp32", "bf16"]

FILE_NAME = "profile.json"
_SCHEMA = 3  # 1 knew no tiles side by side, 2 no five at once; both are measured anew
_TILE = 304
_VIEW_TILES = 25  # a view of 1024² on no grid touches 5 × 5 cores of 256²
_GPU_BATCHES = (8, 16, 32)
_GPU_FLIPS = 4  # where the network costs little, the confidence is averaged
_MANY_CORES = 4  # from which on groups of them are worth trying
_WORTH_BF16 = 1.15  # below that the exact arithmetic is the better deal
_WORTH_MORE = 1.05  # more threads, or tiles at once: a cancel waits for them


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How the network is run on this machine.

    Parameters
    ----------
    device
        "cpu", "cuda" or "cuda:N".
    precision
        "fp32", or "bf16" where the device calculates in it.
    threads
        Threads of the network on a CPU, 1 or more.
    batch
        Tiles at once.
    parallel
        Batches that are computed side by side on a CPU, each on ``threads`` threads of its own.
        The labels do not depend on it.
    flips
        Views of every tile (1, 2 or 4) over which the confidence is averaged; the labels come
        from the first alone.
    """

    device: str = "cpu"
    precision: Precision = "fp32"
    threads: int = 1
    batch: int = 1
    flips: int = 1
    parallel: int = 1

    def __post_init__(self) -> None:
        """Refuse what no machine can do."""
        name, _, number = str(self.device).partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdigit()):
            raise ConfigError(f"profile device {self.device!r}; cpu, cuda or cuda:N is needed")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"profile precision {self.precision!r}; fp32 or bf16 is needed")
        if self.flips not in (1, 2, 4):
            raise ConfigError(f"profile flips {self.flips!r}; 1, 2 or 4 is needed")
        for field, most in (("threads", 1024), ("batch", 1024), ("parallel", 1024)):
            value = getattr(self, field)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise ConfigError(f"profile {field} {value!r}; a number 1..{most} is needed")

    @property
    def cores(self) -> int:
        """How many cores of a CPU are kept busy."""
        return self.threads * self.parallel

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Profile:
        """Read what :meth:`to_dict` gave; ConfigError in one line if it is something else."""
        if not isinstance(values, dict):
            raise ConfigError(f"a profile is a mapping of settings, got {type(values).__name__}")
        known = set(cls.__dataclass_fields__)
        if values.keys() - known:
            unknown = ", ".join(sorted(map(str, values.keys() - known)))
            raise ConfigError(f"a profile has no setting {unknown}; it has {', '.join(known)}")
        return cls(**values)


def read_profile(path: str | Path) -> Profile:
    """Read a profile from a JSON file, as :func:`write_profile` wrote it or only its settings.

    Raises
    ------
    ConfigError
        If the file cannot be read or is no profile.
    """
    values = _read_json(Path(path))
    inner = values.get("profile", values) if isinstance(values, dict) else values
    return Profile.from_dict(inner)


def default_profile(folder: Path | None = None) -> Profile:
    """Give this machine's profile; the first time it is measured, which takes a few seconds.

    Parameters
    ----------
    folder
        Where it is stored; None is the user's data folder (or GENSELFDIFF_HOME).
    """
    path = (data_home() if folder is None else folder) / FILE_NAME
    machine = describe_machine()
    try:
        stored = _read_json(path)
        if isinstance(stored, dict) and _stamp(stored) == (_SCHEMA, machine):
            return Profile.from_dict(stored.get("profile"))
    except ConfigError:
        pass  # none yet, or of no use: measure again
    profile, measured = calibrate()
    write_profile(path, profile, machine, measured)
    return profile


def _stamp(stored: dict[str, Any]) -> tuple[Any, Any]:
    return stored.get("schema"), stored.get("machine")


def write_profile(
    path: Path, profile: Profile, machine: dict[str, Any], measured: dict[str, float]
) -> None:
    """Store a profile; a folder that cannot be written to is no reason to fail."""
    record = {
        "schema": _SCHEMA,
        "profile": profile.to_dict(),
        "machine": machine,
        "seconds_per_tile": measured,
    }
    partial = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError:
        return
    finally:
        if partial.exists():
            partial.unlink(missing_ok=True)


def describe_machine() -> dict[str, Any]:
    """What a measured profile holds for; says nothing about the user."""
    try:
        torch_version = version("torch")
    except PackageNotFoundError:
        torch_version = "none"
    return {
        "system": platform.system(),
        "processor": _cpu_line("model name") or platform.processor(),
        "cores": available_cores(),
        "gpu": Path("/dev/nvidia0").exists(),
        "torch": torch_version,
    }


def available_cores() -> int:
    """Number of processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_cpu_bf16() -> bool:
    """Whether the processor itself calculates in bf16; elsewhere it would be emulated, slowly."""
    import torch

    if torch.backends.cpu.get_cpu_capability() not in ("AVX512", "AMX"):
        return False
    flags = _cpu_line("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def calibrate() -> tuple[Profile, dict[str, float]]:
    """Measure which settings segment a tile fastest.

    Returns
    -------
    profile, seconds
        The choice, and seconds per tile of every setting tried: "fp32 x2 /1 |3" is 2 threads for 1
        tile at once, and that 3 times side by side.
    """
    import torch

    from napari_genselfdiff.backbone.heads import build_segmenter
    from napari_genselfdiff.backbone.unet import PRESETS

    segmenter = build_segmenter(PRESETS["fast"], 1, 0)
    before = torch.get_num_threads()
    try:
        candidates = _gpu_profiles() if torch.cuda.is_available() else cpu_profiles()
        measured = {profile: seconds_per_tile(segmenter, profile) for profile in candidates}
    finally:
        torch.set_num_threads(before)
    chosen = _pick(measured)
    if chosen.device != "cpu":
        chosen = replace(chosen, flips=_GPU_FLIPS)
    return chosen, {_name(p): round(s, 5) for p, s in measured.items()}


def _name(profile: Profile) -> str:
    """As in :func:`calibrate`."""
    return f"{profile.precision} x{profile.threads} /{profile.batch} |{profile.parallel}"


def _gpu_profiles() -> list[Profile]:
    import torch

    precision: Precision = "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    threads = min(available_cores(), 8)
    return [
        Profile(device="cuda", precision=precision, threads=threads, batch=batch)
        for batch in _GPU_BATCHES
    ]


def cpu_profiles() -> list[Profile]:
    """What is worth measuring: all cores or half, for one tile, for more, or for one tile each."""
    cores = available_cores()
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if has_cpu_bf16() else ("fp32",)
    ways = {(max(1, cores // 2), 1, 1), (cores, 1, 1), (cores, 2, 1), (cores, 5, 1), (1, 1, cores)}
    if cores >= _MANY_CORES:
        ways.add((2, 1, cores // 2))
    return [
        Profile(precision=precision, threads=threads, batch=batch, parallel=parallel)
        for threads, batch, parallel in sorted(ways)
        for precision in precisions
    ]


def _pick(measured: dict[Profile, float]) -> Profile:
    """The fastest; few cores, small batches and exact arithmetic win close calls."""

    def cost(profile: Profile) -> float:
        worth = _WORTH_BF16 if profile.precision == "bf16" else 1.0
        for field in ("cores", "batch"):
            if getattr(profile, field) > min(getattr(p, field) for p in measured):
                worth *= _WORTH_MORE
        return measured[profile] * worth

    return min(measured, key=cost)


def seconds_per_tile(segmenter: Segmenter, profile: Profile, repeats: int = 3) -> float:
    """The fastest of some runs with a profile.

    On a CPU, which has a view's tiles and no more at once, the share of a tile in a view: what
    fills up its last batch is paid for, too.
    """
    import numpy as np

    from napari_genselfdiff.prediction.network import Network
    from napari_genselfdiff.prediction.side_by_side import side_by_side

    network = Network(segmenter, profile)
    tiles = np.full((profile.batch, _TILE, _TILE, 3), 200, np.uint8)
    network(tiles)  # the first run also prepares kernels
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in side_by_side(network, [tiles] * profile.parallel, profile.parallel):
            pass
        times.append(time.perf_counter() - start)
    at_once = profile.batch * profile.parallel
    if profile.device != "cpu":
        return min(times) / at_once
    return min(times) * math.ceil(_VIEW_TILES / at_once) / _VIEW_TILES


def _read_json(path: Path) -> object:
    try:
        if path.stat().st_size > 2**20:
            raise ConfigError(f"{path} is too large for a profile; give another file")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as err:
        if isinstance(err, ConfigError):
            raise
        raise ConfigError(f"the profile {path} cannot be read: {err}; give another file") from err
    return found


def _cpu_line(name: str) -> str:
    """A line of Linux's description of the first processor; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
