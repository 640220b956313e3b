from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from napari_genselfdiff.engine import lane as lane_module
from napari_genselfdiff.engine.engine import Engine
from napari_genselfdiff.engine.job import Job
from napari_genselfdiff.errors import JobFailedError
from tests.engine import work

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def shared() -> Iterator[Engine]:
    """One engine for tests that leave its workers alive."""
    with Engine() as engine:
        yield engine


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


def poll_until(engine: Engine, condition: Callable[[], bool], seconds: float = 60) -> float:
    """Poll as a window would; give how long it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "nothing happened"
        engine.poll()
        time.sleep(0.005)
    return time.monotonic() - start


def submit(
    engine: Engine, task: Callable[..., Any], *arguments: Any, training: bool = False
) -> Job:
    lane = "training" if training else "interactive"
    return engine.submit(lane, task, *arguments, title="Work")  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_job_gives_partials_and_a_result(shared: Engine) -> None:
    job = submit(shared, work.count, 4, 0.0)
    assert job.state in ("queued", "running")
    heard: list[Any] = []
    ended: list[str] = []
    job.partial.connect(heard.append)
    job.finished.connect(ended.append)
    assert job.wait(60) == "counted to 4"
    assert heard == job.take_partials() == [0, 1, 2, 3]
    assert job.take_partials() == []
    assert job.progress == 3
    assert (job.state, job.done, ended) == ("done", True, ["done"])


def test_arrays_arrive_whole(shared: Engine) -> None:
    job = submit(shared, work.array, 1200)
    expected = np.arange(1200 * 1200, dtype=np.uint32).reshape(1200, 1200)
    np.testing.assert_array_equal(job.wait(60), expected)
    np.testing.assert_array_equal(job.progress, np.ones((1200, 1200)))
    assert submit(shared, work.take, expected).wait(60) == expected.sum()


def test_jobs_of_one_worker_run_one_after_the_other(shared: Engine) -> None:
    first, second = submit(shared, work.count, 3, 0.02), submit(shared, work.who)
    assert second.wait(60)[0] == shared.pids["interactive"]
    assert first.done
    assert shared.busy is False


def test_the_two_workers_are_two_processes_and_training_gives_way(shared: Engine) -> None:
    long = submit(shared, work.count, 1000, 0.01, training=True)
    pid, niceness = submit(shared, work.who).wait(60)
    assert not long.done, "Predict must answer while Refine runs"
    long.cancel()
    long.wait(60)
    other, gives_way = submit(shared, work.who, training=True).wait(60)
    assert len({pid, other, os.getpid()}) == 3
    assert gives_way == niceness + 10


def test_cancel_stops_a_running_job_within_a_second(shared: Engine) -> None:
    job = submit(shared, work.count, 10_000, 0.05)
    poll_until(shared, lambda: len(job.partials) > 2)
    job.cancel()
    seen = len(job.partials)
    assert poll_until(shared, lambda: job.done) < 1
    assert (job.state, job.value(), len(job.partials)) == ("cancelled", None, seen)
    assert submit(shared, work.who).wait(60)[0] == shared.pids["interactive"]


def test_a_job_that_is_concluded_gives_what_it_has(shared: Engine) -> None:
    job = submit(shared, work.count, 10_000, 0.02)
    poll_until(shared, lambda: len(job.partials) > 2)
    job.conclude()
    assert "was asked for it" in job.wait(60)
    assert job.state == "done"
    assert submit(shared, work.count, 2, 0.0).wait(60) == "counted to 2"  # only that one job


def test_cancel_takes_a_waiting_job_out_at_once(shared: Engine) -> None:
    running, waiting = submit(shared, work.count, 100, 0.01), submit(shared, work.fail, "ours")
    waiting.cancel()
    assert waiting.state == "cancelled"
    running.cancel()
    running.wait(60)
    waiting.cancel()  # once more does no harm
    assert waiting.error is None


def test_our_errors_arrive_as_they_are(shared: Engine) -> None:
    submit(shared, work.who).wait(60)
    pid = shared.pids["interactive"]
    job = submit(shared, work.fail, "ours")
    with pytest.raises(JobFailedError, match=r"^Work failed: the region is too small; choose"):
        job.wait(60)
    assert job.state == "failed"
    assert job.log == ""
    assert submit(shared, work.who).wait(60)[0] == pid, "an expected error needs no new process"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("memory", "memory of this computer was not enough"),
        ("torch", "memory of this computer was not enough"),
        ("other", r"unexpected error \(KeyError: 'nobody thought of this'\)"),
        ("stop", r"unexpected error \(RuntimeError"),
    ],
)
def test_unexpected_errors_are_told_and_get_a_fresh_process(
    shared: Engine, kind: str, sentence: str
) -> None:
    submit(shared, work.who).wait(60)
    pid = shared.pids["interactive"]
    job = submit(shared, work.fail, kind)
    with pytest.raises(JobFailedError, match=sentence):
        job.wait(60)
    assert "Traceback" in job.log
    assert job.take_partials() == ["before"]
    assert submit(shared, work.who).wait(60)[0] != pid


def test_a_result_that_cannot_be_sent_is_an_error(shared: Engine) -> None:
    with pytest.raises(JobFailedError, match="unexpected error"):
        submit(shared, work.unsendable).wait(60)
    assert submit(shared, work.who).wait(60)


def test_a_worker_killed_in_the_middle_of_a_job(shared: Engine) -> None:
    job = submit(shared, work.count, 10_000, 0.05)
    waiting = submit(shared, work.who)
    poll_until(shared, lambda: len(job.partials) > 0)
    pid = shared.pids["interactive"]
    os.kill(pid, signal.SIGKILL)
    assert poll_until(shared, lambda: job.done) < 2
    assert job.state == "failed"
    assert job.error is not None
    assert "ended by the system, perhaps because the memory was not enough" in job.error
    assert "try again" in job.error
    assert waiting.wait(60)[0] != pid, "the next job gets a fresh process"
    assert len(job.partials) < 100, "never run again by itself"


def test_a_worker_that_kills_itself(shared: Engine) -> None:
    with pytest.raises(JobFailedError, match="ended by the system"):
        submit(shared, work.die).wait(60)


def test_an_idle_worker_killed_is_replaced(shared: Engine) -> None:
    submit(shared, work.who).wait(60)
    pid = shared.pids["interactive"]
    os.kill(pid, signal.SIGKILL)
    poll_until(shared, lambda: "interactive" not in shared.pids)
    assert submit(shared, work.who).wait(60)[0] != pid


def test_a_worker_that_ignores_a_cancel_is_ended(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "HUNG_S", 1.3)
    job = submit(shared, work.busy)
    poll_until(shared, lambda: len(job.partials) > 0)
    pid = job.partials[0]
    job.cancel()
    assert poll_until(shared, lambda: job.done) < 1.05
    assert job.state == "cancelled"
    assert submit(shared, work.who).wait(60)[0] != pid
    assert gone(pid)


def test_a_worker_that_hangs_is_ended_and_the_request_can_be_repeated(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(shared, work.count, 10_000, 0.01)
    waiting = submit(shared, work.who)
    poll_until(shared, lambda: len(job.partials) > 2)
    pid = shared.pids["interactive"]
    os.kill(pid, signal.SIGSTOP)  # as hung as a process can be: no signal but KILL gets through
    time.sleep(0.05)  # what it said before has come by then
    shared.poll()
    seen = len(job.partials)
    monkeypatch.setattr(lane_module, "SILENT_S", 0.4)
    assert 0.3 < poll_until(shared, lambda: job.done) < 3
    monkeypatch.undo()
    assert job.state == "failed"
    assert job.error is not None
    assert "did not answer for 0 s and was ended" in job.error
    assert "try again" in job.error
    assert len(job.partials) == seen, "never run again by itself"
    assert waiting.wait(60)[0] != pid
    assert gone(pid)
    assert submit(shared, work.count, 3, 0.0).wait(60) == "counted to 3"


def test_a_worker_that_talks_is_never_taken_for_hung(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(shared, work.who).wait(60)
    monkeypatch.setattr(lane_module, "SILENT_S", 0.5)
    assert submit(shared, work.count, 20, 0.05).wait(60) == "counted to 20"


def test_a_sleeping_computer_is_no_hung_worker(shared: Engine) -> None:
    job = submit(shared, work.count, 30, 0.01)
    poll_until(shared, lambda: len(job.partials) > 0)
    shared._lanes["interactive"]._looked_at -= 3600  # nobody looked for an hour
    shared.poll()
    assert job.wait(60) == "counted to 30"


def test_waiting_has_an_end(shared: Engine) -> None:
    job = submit(shared, work.count, 10_000, 0.05)
    with pytest.raises(JobFailedError, match=r"did not end within 0\.2 s"):
        job.wait(0.2)
    with pytest.raises(JobFailedError, match="is still running"):
        job.value()
    job.cancel()
    assert job.wait(60) is None


def test_only_the_newest_prediction_waits(shared: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_genselfdiff.engine import tasks
    from napari_genselfdiff.slides.geometry import Region

    monkeypatch.setattr(tasks, "predict", work_predict)
    place = Path("s"), 0.5, Path("m")
    first = shared.predict(*place, Region(0, 0, 1, 1))
    poll_until(shared, lambda: first.state == "running")
    second = shared.predict(*place, Region(0, 0, 1, 2))
    other = submit(shared, work.who)
    third = shared.predict(*place, Region(0, 0, 1, 3))
    assert (first.state, second.state, third.state) == ("running", "cancelled", "queued")
    assert [first.wait(60), third.wait(60)] == [1, 3]
    assert other.wait(60), "only predictions replace each other"


def work_predict(context: Any, *arguments: Any) -> Generator[Any, None, Any]:
    time.sleep(0.3)
    yield from ()
    return arguments[3].width


def test_closing_leaves_no_process_and_no_running_job() -> None:
    engine = Engine()
    jobs = [submit(engine, work.busy), submit(engine, work.count, 9999, 0.1, training=True)]
    waiting = submit(engine, work.who)
    poll_until(engine, lambda: all(job.partials for job in jobs))
    pids = list(engine.pids.values())
    start = time.monotonic()
    engine.close()
    assert time.monotonic() - start < 3
    assert all(gone(pid) for pid in pids)
    assert {job.state for job in [*jobs, waiting]} == {"cancelled"}
    assert engine.pids == {}
    engine.poll()
    engine.close()
    with pytest.raises(JobFailedError, match="engine is closed"):
        submit(engine, work.who)


def test_a_worker_that_cannot_start_fails_its_job(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "serve", refuse_to_serve)
    with pytest.raises(JobFailedError, match="ended unexpectedly"):
        submit(engine, work.who).wait(60)
    monkeypatch.undo()
    assert submit(engine, work.who).wait(60)


def refuse_to_serve(*arguments: Any) -> None:
    raise SystemExit(3)


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            sys.path.insert(0, sys.argv[1])
            from napari_genselfdiff.engine.engine import Engine
            from tests.engine import work
            engine = Engine()
            job = engine.submit("interactive", work.busy, title="Work")
            engine.start()
            while not job.partials:
                engine.poll()
            print(*engine.pids.values(), flush=True)
            time.sleep(60)
            """
        )
    )
    parent = subprocess.Popen(
        [sys.executable, str(script), str(REPOSITORY)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def test_a_script_without_a_main_guard_is_not_started_again(tmp_path: Path) -> None:
    script = tmp_path / "no_guard.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys
            sys.path.insert(0, sys.argv[1])
            print("started", flush=True)
            from napari_genselfdiff.engine.engine import Engine
            from tests.engine import work
            with Engine() as engine:
                print(engine.submit("interactive", work.count, 2, 0.0, title="Work").wait(60))
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(script), str(REPOSITORY)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == ["started", "counted to 2"]
