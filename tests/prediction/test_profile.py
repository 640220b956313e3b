from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.prediction import profile as module
from napari_genselfdiff.prediction.profile import Profile, default_profile, read_profile


def test_a_profile_survives_json() -> None:
    profile = Profile(device="cuda:1", precision="bf16", threads=3, batch=16, parallel=2)
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"device": "tpu"}, "device 'tpu'"),
        ({"device": "cuda:x"}, "device 'cuda:x'"),
        ({"precision": "int8"}, "precision 'int8'"),
        ({"threads": 0}, "threads 0"),
        ({"batch": True}, "batch True"),
        ({"parallel": 0}, "parallel 0"),
        ({"speed": 1}, "no setting speed"),
        ([1], "mapping"),
    ],
)
def test_impossible_profiles_are_refused(values: object, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Profile.from_dict(values)


def test_the_machine_is_measured_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def calibrate() -> tuple[Profile, dict[str, float]]:
        calls.append(1)
        return Profile(threads=2), {"fp32 x2": 0.04}

    monkeypatch.setattr(module, "calibrate", calibrate)
    assert default_profile() == default_profile() == Profile(threads=2)
    assert len(calls) == 1
    assert read_profile(home / "profile.json") == Profile(threads=2)


@pytest.mark.parametrize("damage", ["{", '{"machine": {}}', '{"profile": {"threads": -1}}', "[]"])
def test_a_stored_profile_of_no_use_is_measured_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(module, "calibrate", lambda: (Profile(threads=3), {}))
    (home / "profile.json").write_text(damage)
    assert default_profile() == Profile(threads=3)


def test_a_profile_of_an_older_version_is_measured_again_and_can_still_be_given(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "calibrate", lambda: (Profile(parallel=2), {}))
    path = home / "profile.json"
    module.write_profile(path, Profile(threads=2), module.describe_machine(), {})
    old = json.loads(path.read_text())
    old["schema"] = 1
    del old["profile"]["parallel"]
    path.write_text(json.dumps(old))
    assert read_profile(path) == Profile(threads=2)
    assert default_profile() == Profile(parallel=2)


def test_a_folder_that_cannot_be_written_does_not_stop_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "calibrate", lambda: (Profile(threads=3), {}))
    (tmp_path / "file").write_text("")
    assert default_profile(tmp_path / "file") == Profile(threads=3)


def test_exact_arithmetic_and_few_threads_win_close_calls() -> None:
    exact, half = Profile(threads=2), Profile(threads=2, precision="bf16")
    assert module._pick({exact: 1.10, half: 1.0}) == exact
    assert module._pick({exact: 1.30, half: 1.0}) == half
    assert module._pick({exact: 1.0, Profile(threads=4): 0.97}) == exact
    assert module._pick({exact: 1.0, Profile(threads=4): 0.6}) == Profile(threads=4)
    aside = Profile(threads=1, parallel=2)
    assert module._pick({exact: 1.0, aside: 0.99}) == aside
    assert module._pick({Profile(): 1.0, aside: 0.97}) == Profile()


def test_calibration_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "available_cores", lambda: 1)
    profile, seconds = module.calibrate()
    assert profile.device == "cuda" or profile.threads == 1
    assert profile.device == "cuda" or all(0 < s < 30 for s in seconds.values())


def test_a_profile_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_profile(tmp_path / "missing.json")
