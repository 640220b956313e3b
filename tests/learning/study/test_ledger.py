from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from napari_genselfdiff.errors import ConfigError
from napari_genselfdiff.learning.study.ledger import JsonLines, ScoredLists, claimed

LINES_BY_ANOTHER = """
import sys
from pathlib import Path
from napari_genselfdiff.learning.study.ledger import JsonLines
for i in range(40):
    JsonLines(Path(sys.argv[1])).append({"who": sys.argv[2], "i": i, "long": "x" * 5000})
"""


def test_a_line_cut_off_by_a_crash_costs_that_line_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = JsonLines(tmp_path / "runs.jsonl")
    lines.append({"a": 1})
    with lines.path.open("ab") as file:
        file.write(b'{"b": 2, "sco')
    with caplog.at_level(logging.WARNING):
        assert lines.read() == [{"a": 1}]
    assert "line 2 is incomplete" in caplog.text
    lines.append({"c": 3})
    assert lines.read() == [{"a": 1}, {"c": 3}]


def test_processes_do_not_mix_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    arguments = [[sys.executable, "-c", LINES_BY_ANOTHER, str(path), who] for who in "ab"]
    running = [subprocess.Popen(command) for command in arguments]
    assert [process.wait(60) for process in running] == [0, 0]
    found = JsonLines(path).read()
    for who in "ab":
        assert [record["i"] for record in found if record["who"] == who] == list(range(40))


class TestScoredOnce:
    def test_one_configuration_may_come_back_another_may_not(self, tmp_path: Path) -> None:
        scored = ScoredLists(tmp_path / "scored.jsonl")
        assert scored.allow("dev.txt", "toy_n1_default", "first") is False
        assert scored.allow("dev.txt", "toy_n1_default", "first") is False
        assert len(scored.read()) == 1
        with pytest.raises(ConfigError, match=r"configuration first, now it is second.*--again"):
            scored.allow("dev.txt", "toy_n1_default", "second")
        assert len(scored.read()) == 1

    def test_other_cases_and_lists_are_free(self, tmp_path: Path) -> None:
        scored = ScoredLists(tmp_path / "scored.jsonl")
        scored.allow("dev.txt", "toy_n1_default", "first")
        assert scored.allow("dev.txt", "toy_n1_scratch", "second") is False
        assert scored.allow("other.txt", "toy_n1_default", "second") is False

    def test_again_is_remembered(self, tmp_path: Path) -> None:
        scored = ScoredLists(tmp_path / "scored.jsonl")
        scored.allow("dev.txt", "case", "first")
        assert scored.allow("dev.txt", "case", "second", again=True) is True
        assert scored.allow("dev.txt", "case", "second") is True
        assert scored.allow("dev.txt", "case", "first") is False
        assert [record["again"] for record in scored.read()] == [False, True]


def test_a_run_is_claimed_by_one_process(tmp_path: Path) -> None:
    with claimed(tmp_path, "run") as mine, claimed(tmp_path, "run") as yours:
        assert (mine, yours) == (True, False)
    with claimed(tmp_path, "run") as mine:
        assert mine
