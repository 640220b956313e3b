"""A cluster of processes on this machine, over TLS, as docs/cluster.md says."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from napari_genselfdiff.engine.cluster import ClusterWorkers, make_certificates, security_from
from napari_genselfdiff.engine.workers import HereWorkers
from napari_genselfdiff.errors import ConfigError, JobFailedError
from napari_genselfdiff.registry.folder import Model
from tests.engine.slide_runs import assert_same, labels, whole

GUIDE = Path(__file__).parents[2] / "docs" / "cluster.md"


def test_certificates_are_private_and_never_replaced(tmp_path: Path) -> None:
    from cryptography import x509

    paths = make_certificates(tmp_path / "certs", ["node1", "10.0.0.4"])
    assert stat.S_IMODE((tmp_path / "certs" / "key.pem").stat().st_mode) == 0o600
    assert [path.name for path in paths] == ["ca.pem", "cert.pem", "key.pem"]
    certificate = x509.load_pem_x509_certificate(paths[1].read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "node1"]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(paths[0].read_bytes()))
    with pytest.raises(ConfigError, match="already; choose an empty folder"):
        make_certificates(tmp_path / "certs")
    assert security_from(tmp_path / "certs").require_encryption


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cluster certificates"):
        ClusterWorkers("tls://127.0.0.1:1", tmp_path)
    with pytest.raises(ConfigError, match="with TLS is needed"):
        ClusterWorkers("tcp://127.0.0.1:1", tmp_path)
    make_certificates(tmp_path / "certs")
    with pytest.raises(JobFailedError, match="does not answer"):
        ClusterWorkers(f"tls://127.0.0.1:{_free_port()}", tmp_path / "certs", connect_s=0.5)


# -- a real cluster, slow ---------------------------------------------------------------


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _guide_commands(port: int) -> list[list[str]]:
    """The commands of the guide's first block, with a port that is free here."""
    block = GUIDE.read_text(encoding="utf-8").split("```sh\n")[1].split("```")[0]
    return [shlex.split(line.replace("8786", str(port))) for line in block.splitlines()]


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        certificates, self.scheduler, self.worker, self.segment = _guide_commands(self.port)
        self.folder, self.processes = folder, []
        self.env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        subprocess.run(certificates, cwd=folder, env=self.env, check=True, capture_output=True)
        self.address, self.tls = f"tls://127.0.0.1:{self.port}", folder / "certs"

    processes: list[subprocess.Popen[bytes]]

    def start(self, command: list[str]) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{command[1]}.log").open("ab")
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdout=log, stderr=log, start_new_session=True
        )
        self.processes.append(process)
        return process

    def wait_for_workers(self, number: int) -> None:
        workers = ClusterWorkers(self.address, self.tls, connect_s=60)
        try:
            workers._client.wait_for_workers(number, timeout=120)
        finally:
            workers.close()

    def close(self) -> None:
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def reference(folder: Path, slide_path: Path, model: Model) -> Path:
    whole(slide_path, folder / "reference.gsd.zarr", model, lambda _: HereWorkers())
    return folder / "reference.gsd.zarr"


@pytest.mark.slow
def test_the_guide_works_as_written(
    cluster: Cluster, slide_path: Path, model: Model, home: Path
) -> None:
    cluster.start(cluster.scheduler)
    cluster.start(cluster.worker)
    cluster.wait_for_workers(2)
    command = [word.replace("SLIDE", str(slide_path)) for word in cluster.segment]
    out = cluster.folder / "o.gsd.zarr"
    speed = home / "speed.json"
    speed.write_text('{"threads": 1}')
    extra = ["--model", str(model.path), "--out", str(out), "--profile", str(speed)]
    done = subprocess.run(
        [*command, *extra], cwd=cluster.folder, env=cluster.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "slide.tif: " in done.stdout
    assert (labels(out).classes > 0).any()


@pytest.mark.slow
def test_workers_die_and_join_and_the_labels_are_the_same(
    cluster: Cluster, slide_path: Path, model: Model, reference: Path, tmp_path: Path
) -> None:
    cluster.start(cluster.scheduler)
    one = [word if word != "2" else "1" for word in cluster.worker]
    first = cluster.start(one)
    cluster.wait_for_workers(1)
    joined: list[Any] = []

    def change_hands(share: float, _eta: float | None) -> None:
        if share > 0.2 and not joined:
            os.killpg(first.pid, signal.SIGKILL)
            joined.append(cluster.start(one))

    store = tmp_path / "s.gsd.zarr"
    whole(
        slide_path,
        store,
        model,
        lambda _: ClusterWorkers(cluster.address, cluster.tls),
        show=change_hands,
    )
    assert joined
    assert_same(labels(store), labels(reference))


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_said_and_the_run_goes_on(
    cluster: Cluster, slide_path: Path, model: Model, reference: Path, tmp_path: Path
) -> None:
    scheduler = cluster.start(cluster.scheduler)
    cluster.start(cluster.worker)
    cluster.wait_for_workers(2)

    def take_away(share: float, _eta: float | None) -> None:
        if share > 0.2:
            with suppress(ProcessLookupError):
                os.killpg(scheduler.pid, signal.SIGKILL)

    store, began = tmp_path / "s.gsd.zarr", time.monotonic()
    with pytest.raises(JobFailedError, match=r"scheduler tls://.* went away; what was finished"):
        whole(
            slide_path,
            store,
            model,
            lambda _: ClusterWorkers(cluster.address, cluster.tls),
            show=take_away,
        )
    assert time.monotonic() - began < 120
    rest = whole(slide_path, store, model)
    assert rest.resumed
    assert_same(labels(store), labels(reference))
