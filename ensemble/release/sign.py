"""Signed releases: an Ed25519 signature over the manifest and so, through its hashes, over every byte.

`manifest.sig` holds the 64 bytes of the signature (RFC 8032), which `openssl pkeyutl -verify -rawin` understands.
Keys are PEM files, as `openssl genpkey -algorithm ed25519` makes them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ensemble.layouts import models_in
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import MANIFEST, SIGNATURE, Release, manifest_text
from workflows.errors import ReleaseError
from workflows.files import atomic_write

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PASSWORD = "RETRIEVAL_KEY_PASSWORD"
"""Environment variable: the password of an encrypted private key."""
_END = b"-----END PUBLIC KEY-----"
_LARGEST = 1 << 20


def new_keys(private: Path, public: Path) -> None:
    """Write a new key pair, PEM, the private one readable by its owner alone; raise ReleaseError if a file exists
    already.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    for path in (private, public):
        if path.exists():
            raise ReleaseError(f"{path}: is there already; a key that is replaced signs no release that is served")
    key = Ed25519PrivateKey.generate()
    private.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    atomic_write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def sign(release: Path, key: Path, copies: Iterable[Path] = ()) -> Release:
    """Verify a release and sign it with a private key; `copies` of the same release get the signature too.

    `RETRIEVAL_KEY_PASSWORD` opens an encrypted key. Raise ReleaseError if the release is damaged, or `key` is no PEM
    file of an Ed25519 private key.
    """
    private, opened = _private_key(key), open_release(release)
    signature = private.sign(_manifest_of(opened))
    for place in (opened.path, *copies):
        if (place / MANIFEST).read_bytes() == _manifest_of(opened):
            atomic_write(place / SIGNATURE, signature)
    return opened


def copies_in(repository: Path) -> list[Path]:
    """Return the releases within a Triton model repository."""
    return [place for model in models_in(repository) for place in sorted((repository / model).glob("*/release/"))]


def is_signed(release: Path) -> bool:
    """Return whether a release has a signature, by any key."""
    return (release / SIGNATURE).is_file()


def open_signed(release: Path, keys: Path, at_least: str | None = None) -> Release:
    """Open a release after verifying its hashes and its signature, by one of the Ed25519 public keys in a PEM file.

    `at_least` is the earliest `created` that is accepted, ISO 8601 in UTC: an older release is validly signed as well,
    so that anyone who can exchange releases could bring it back.

    Raises
    ------
    ReleaseError
        There is no signature by any of these keys; the release is damaged, or older than `at_least`; the file does not
        hold such keys.
    """
    public = public_keys(keys)
    manifest, signature = (_read(release / name) for name in (MANIFEST, SIGNATURE))
    if signature is None:
        raise ReleaseError(f"{release}: is not signed (no {SIGNATURE}); `retrieval sign {release} --key KEY` signs it")
    if manifest is None or not any(_fits(key, signature, manifest) for key in public):
        raise ReleaseError(f"{release / SIGNATURE}: is no signature of {MANIFEST} by a key in {keys}")
    opened = open_release(release)
    if _manifest_of(opened) != manifest:  # it was changed after the signature was looked at
        raise ReleaseError(f"{release / MANIFEST}: changes while it is read")
    if at_least is not None and str(opened.manifest["created"]) < at_least:
        raise ReleaseError(
            f"{release / MANIFEST}, created: {opened.manifest['created']}, before {at_least} (--at-least); give an "
            "earlier time to go back on purpose"
        )
    return opened


def public_keys(path: Path) -> list[Ed25519PublicKey]:
    """Return the Ed25519 public keys of a PEM file; raise ReleaseError if it holds none, or anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _key_file(path)
    if b"PRIVATE KEY" in content:
        raise ReleaseError(f"{path}: is a private key; expected the public one (`openssl pkey -in {path} -pubout`)")
    parts = [part + _END for part in content.split(_END)[:-1]]
    try:
        keys = [load_pem_public_key(part) for part in parts]
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ReleaseError(f"{path}: not a PEM file of public keys: {error}") from None
    ed25519 = [key for key in keys if isinstance(key, Ed25519PublicKey)]
    if not ed25519 or len(ed25519) != len(keys):
        raise ReleaseError(f"{path}: expected Ed25519 public keys, PEM; `retrieval keys NAME` makes a pair")
    return ed25519


def _private_key(path: Path) -> Ed25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    password = os.environ.get(PASSWORD)
    try:
        key = load_pem_private_key(_key_file(path), password.encode() if password else None)
    except TypeError:
        raise ReleaseError(f"{path}: is encrypted; put its password into {PASSWORD} (and only if it is)") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ReleaseError(f"{path}: not a private key as PEM, or another password is in {PASSWORD}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ReleaseError(f"{path}: expected an Ed25519 private key, PEM; `retrieval keys NAME` makes a pair")
    return key


def _key_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST)
    except OSError as error:
        raise ReleaseError(f"{path}: no key there: {error.strerror}; `retrieval keys NAME` makes a pair") from None


def open_release(release: Path) -> Release:
    """Open a release after verifying its hashes; raise ReleaseError if it is damaged."""
    try:
        return Release.open(release)
    except InvalidRelease as error:
        raise ReleaseError(str(error)) from None


def _manifest_of(release: Release) -> bytes:
    return manifest_text(release.manifest).encode()


def _read(path: Path) -> bytes | None:
    if path.is_symlink() or not path.is_file():
        return None
    with path.open("rb") as file:
        return file.read(1 << 22)


def _fits(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
