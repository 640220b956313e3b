"""Workers on a cluster: dask.distributed, always over TLS, seen as an Executor.

``dask`` is an optional extra (``pip install "napari-genselfdiff[cluster]"``). A folder with
``ca.pem``, ``cert.pem`` and ``key.pem`` is all that scheduler, workers and owner share beside the
drive; :func:`make_certificates` writes one.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from typing import TYPE_CHECKING, Any

from napari_genselfdiff.errors import ConfigError, JobFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from distributed import Client
    from distributed.security import Security

CA, CERT, KEY = "ca.pem", "cert.pem", "key.pem"
_CONNECT_S = 20.0
_DAYS = 365
_MISSING = 'dask is not installed here; pip install "napari-genselfdiff[cluster]"'


class ClusterWorkers:
    """Workers of a dask cluster; they may die, and new ones may join, at any time.

    Parameters
    ----------
    address
        Of the scheduler, such as ``tls://10.0.0.4:8786``.
    tls
        Folder of the certificates.

    Raises
    ------
    ConfigError
        If dask or a certificate is missing, or the address is not one of TLS.
    JobFailedError
        If the scheduler does not answer.
    """

    def __init__(self, address: str, tls: Path, *, connect_s: float = _CONNECT_S) -> None:
        if not address.startswith("tls://"):
            raise ConfigError(
                f"--scheduler {address!r}; an address with TLS is needed, such as "
                "tls://10.0.0.4:8786 (slides are not sent over an open wire)"
            )
        security = security_from(tls)
        from distributed import Client

        try:
            self._client: Client = Client(
                address, security=security, timeout=connect_s, set_as_default=False
            )
        except (OSError, TimeoutError, ValueError) as err:
            raise JobFailedError(
                f"the scheduler {address} does not answer ({_line(err)}); start it (see "
                "docs/cluster.md) or check address and certificates"
            ) from err
        self._address = address
        # A worker that dies three times over a task takes the task for the culprit, as we do.
        self._executor = self._client.get_executor(pure=False, retries=0)

    @property
    def ahead(self) -> int:
        """Two tasks for each thread there is now, so that new workers are used as they join."""
        try:
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
        except (KeyError, TypeError):
            workers = {}
        return 2 * max(1, sum(int(worker["nthreads"]) for worker in workers.values()))

    def submit(self, task: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Hand over a task."""
        if self._client.status != "running":
            raise self.gone()
        future: Future[Any] = self._executor.submit(task, *arguments)
        return future

    def revived(self, error: BaseException) -> bool:
        """Whether only a worker died; JobFailedError if it is the scheduler that is gone."""
        from concurrent.futures import CancelledError

        from distributed.scheduler import KilledWorker

        if self._client.status != "running" or isinstance(error, CancelledError):
            raise self.gone() from error
        return isinstance(error, KilledWorker)

    def gone(self) -> JobFailedError:
        """What to say when the scheduler went away."""
        return JobFailedError(
            f"the scheduler {self._address} went away; what was finished is kept. Start it again "
            "and run the same command to go on"
        )

    def close(self) -> None:
        """Leave the cluster; it stays for others."""
        self._executor.shutdown(wait=False)
        self._client.close(timeout=5)


def security_from(tls: Path) -> Security:
    """TLS settings for everybody who takes part; nothing else is accepted on either side.

    Raises
    ------
    ConfigError
        If dask or a file is missing.
    """
    missing = [name for name in (CA, CERT, KEY) if not (tls / name).is_file()]
    if missing:
        raise ConfigError(
            f"{tls} has no {', '.join(missing)}; make the certificates once with "
            f"`genselfdiff cluster certificates {tls}` and copy the folder to every machine"
        )
    try:
        from distributed.security import Security
    except ImportError as err:
        raise ConfigError(_MISSING) from err
    files = {
        f"tls_{role}_{kind}": str(tls / name)
        for role in ("scheduler", "worker", "client")
        for kind, name in (("cert", CERT), ("key", KEY))
    }
    return Security(tls_ca_file=str(tls / CA), require_encryption=True, **files)


def make_certificates(folder: Path, hosts: Sequence[str] = ()) -> list[Path]:
    """Write a private authority and one certificate signed by it, for all who take part.

    Parameters
    ----------
    folder
        Where to; its key must be readable by nobody else.
    hosts
        Names or addresses of the machines, beside ``localhost``.

    Raises
    ------
    ConfigError
        If ``cryptography`` is missing, or certificates are there already.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as err:
        raise ConfigError(
            'cryptography is not installed here; pip install "napari-genselfdiff[cluster]"'
        ) from err
    paths = [folder / name for name in (CA, CERT, KEY)]
    there = [path.name for path in paths if path.exists()]
    if there:
        raise ConfigError(f"{folder} has {', '.join(there)} already; choose an empty folder")
    authority, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    names = [_general_name(host) for host in dict.fromkeys(["localhost", "127.0.0.1", *hosts])]
    root = (
        _builder(x509, "napari-genselfdiff cluster", "napari-genselfdiff cluster", authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(x509, sign=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    one = (
        _builder(x509, "napari-genselfdiff member", "napari-genselfdiff cluster", key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(x509, sign=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
        .sign(authority, hashes.SHA256())
    )
    _write_certificates(folder, root, one, key)
    return paths


def _builder(x509: Any, subject: str, issuer: str, key: Any) -> Any:
    from cryptography.x509.oid import NameOID

    def name(text: str) -> Any:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(x509: Any, *, sign: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not sign,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_certificates(folder: Path, root: Any, one: Any, key: Any) -> None:
    from cryptography.hazmat.primitives import serialization

    from napari_genselfdiff.annotation.disk import disk_errors

    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with disk_errors(f"write the certificates into {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CA).write_bytes(root.public_bytes(pem))
        (folder / CERT).write_bytes(one.public_bytes(pem))
        with os.fdopen(
            os.open(folder / KEY, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        ) as file:
            file.write(private)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
