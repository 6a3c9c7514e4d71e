"""Certificates for the tests' servers, made by the program `openssl`: of a private authority, for a name."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

OPENSSL = shutil.which("openssl")


@dataclass(frozen=True)
class Certificate:
    """A server's certificate and key, as paths of PEM files."""

    certificate: Path
    key: Path


class Authority:
    """Signs certificates; nobody's system knows it.

    Attributes:
        certificate: its own, to be trusted by whoever wants to.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.chmod(0o755)
        self.certificate = folder / "authority.pem"
        self._key = folder / "authority.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=Test authority", "-keyout", self._key, "-out", self.certificate,
        )  # fmt: skip

    def sign(self, name: str) -> Certificate:
        """Make a certificate for a host: `DNS:localhost`, `IP:127.0.0.1`."""
        stem = self._folder / name.replace(":", "-")
        made = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
        request, extension = stem.with_suffix(".csr"), stem.with_suffix(".ext")
        extension.write_text(f"subjectAltName={name}\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", "/CN=server", "-keyout", made.key, "-out", request,
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial",
            "-days", "2", "-extfile", extension, "-out", made.certificate,
        )  # fmt: skip
        return made


def _openssl(*words: object) -> None:
    assert OPENSSL is not None
    subprocess.run([OPENSSL, *map(str, words)], check=True, capture_output=True)
