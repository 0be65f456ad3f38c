"""Certificates of a server and of its clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflows.errors import ServerError

_PREFIX = "RETRIEVAL_TLS_"


@dataclass(frozen=True)
class ServerTls:
    """Certificates of a server, PEM files, for gRPC; Triton has no TLS for HTTP and metrics."""

    certificate: Path
    """The server's certificate, and those between it and its authority."""
    key: Path
    authority: Path | None = None
    """Mutual: only clients with a certificate of this authority may connect."""

    def options(self) -> dict[str, object]:
        """Return Triton's options; raise ServerError if a file is missing or not PEM."""
        options: dict[str, object] = {
            "grpc-use-ssl": "true",
            "grpc-server-cert": _pem("--tls-cert", self.certificate),
            "grpc-server-key": _pem("--tls-key", self.key),
        }
        if self.authority is not None:
            options |= {"grpc-use-ssl-mutual": "true", "grpc-root-cert": _pem("--tls-ca", self.authority)}
        return options

    def own_client(self) -> ClientTls:
        """Return the TLS options of a client in the server's own process, which trusts this very certificate.

        For mutual TLS the client's certificate is the one that the environment names. Raise ServerError if the server's
        cannot be read, or has no alternative name.
        """
        options = ClientTls.from_environment() or ClientTls()
        return ClientTls(self.certificate, options.certificate, options.key, _name_of(self.certificate))


@dataclass(frozen=True)
class ClientTls:
    """Certificates of a client, PEM files."""

    authority: Path | None = None
    """Whose certificates a server may have; None: those that gRPC trusts by itself."""
    certificate: Path | None = None
    """The client's own, for a server with mutual TLS."""
    key: Path | None = None
    name: str | None = None
    """What the server's certificate is for, where that is not the address at which it is asked."""
    off: bool = False
    """Plain text, whatever the environment says."""

    def __post_init__(self) -> None:
        """Raise ServerError unless certificate and key come together."""
        if (self.certificate is None) != (self.key is None):
            raise ServerError("a client's certificate and its key belong together; only one of them is given")

    @staticmethod
    def from_environment() -> ClientTls | None:
        """Read `RETRIEVAL_TLS_CA`, `_CERT`, `_KEY` and `_NAME`; None (plain text) if none of them is set."""
        settings = {name: os.environ.get(_PREFIX + name) or None for name in ("CA", "CERT", "KEY", "NAME")}
        if not any(settings.values()):
            return None
        authority, certificate, key = (
            Path(path) if path else None for path in (settings["CA"], settings["CERT"], settings["KEY"])
        )
        return ClientTls(authority, certificate, key, settings["NAME"])

    def options(self) -> dict[str, Any]:
        """Return the arguments of tritonclient's `InferenceServerClient`; raise ServerError for an unreadable file."""
        if self.off:
            return {}
        files = {
            "root_certificates": self.authority,
            "certificate_chain": self.certificate,
            "private_key": self.key,
        }
        options: dict[str, Any] = {name: _pem(name, path) for name, path in files.items() if path is not None}
        if self.name is not None:
            options["channel_args"] = [("grpc.ssl_target_name_override", self.name)]
        return {"ssl": True, **options}


def set_environment(tls: Mapping[str, str | None]) -> None:
    """Set the `CA`, `CERT`, `KEY` and `NAME` that clients of this process use."""
    os.environ.update({_PREFIX + name: value for name, value in tls.items() if value})


def _name_of(certificate: Path) -> str:
    """Return one of the names that a certificate is valid for."""
    from cryptography import x509  # takes .1 s; most commands read no certificate

    try:
        parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        raise ServerError(
            f"--tls-cert {certificate}: {error}; expected a PEM certificate with alternative names"
        ) from None
    valid_for = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    if not valid_for:
        raise ServerError(f"--tls-cert {certificate}: is for no DNS name and no address")
    return valid_for[0].replace("*", "any")


def _pem(name: str, path: Path) -> str:
    try:
        if b"-----BEGIN " in path.read_bytes():
            return str(path.absolute())
    except OSError as error:
        raise ServerError(f"{name} {path}: cannot be read: {error.strerror}; expected a PEM file") from None
    raise ServerError(f"{name} {path}: no PEM file; expected lines such as -----BEGIN CERTIFICATE-----")
