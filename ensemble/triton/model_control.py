"""Queries and changes what a running Triton has loaded."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.client.tls import ClientTls
from ensemble.server.endpoints import KEY_HEADER, KEY_VARIABLE
from workflows.errors import ServerError

_POLL_SECONDS = 0.02
_ASK_SECONDS = 10.0
_HEADER = f"triton-grpc-protocol-{KEY_HEADER}"


class ModelControl:
    """Client of Triton's model repository extension over gRPC, as a context manager."""

    def __init__(self, address: str, repository: Path, timeout_s: float = 600.0, tls: ClientTls | None = None) -> None:
        """Connect to the server of a repository.

        The key for its commands is read from `RETRIEVAL_ADMIN_KEY`, else from the repository.
        """
        self.address, self._timeout = address, timeout_s
        key = os.environ.get(KEY_VARIABLE) or _read_key(repository, address.rpartition(":")[2])
        self._headers = {_HEADER: key} if key else None
        self._client = grpc.InferenceServerClient(address, **channel_options(address, tls))

    def __enter__(self) -> ModelControl:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def require(self, models: Sequence[str], version: int) -> None:
        """Raise ServerError unless that version of each of the models is loaded."""
        states = self._states()
        for model in models:
            if states.get((model, str(version))) != "READY":
                raise ServerError(
                    f"{self.address}: does not serve version {version} of '{model}', which is live in the repository; "
                    "is it the server of this repository (`retrieval serve`)?"
                )

    def load(self, model: str) -> None:
        """Load a model as the repository has it; return when it answers. Its loaded versions answer until then.

        Raise ServerError, with the server's reason, if it refuses.
        """
        try:
            self._client.load_model(model, headers=self._headers, client_timeout=self._timeout)
        except InferenceServerException as error:
            raise ServerError(f"{self.address}: '{model}' was not loaded: {_reason(error)}") from None

    def wait_until_unloaded(self, model: str, version: int) -> None:
        """Wait until the version has finished its requests; raise ServerError after a time-out."""
        deadline = time.monotonic() + self._timeout
        while self._states().get((model, str(version))) in ("READY", "UNLOADING"):
            if time.monotonic() > deadline:
                raise ServerError(f"{self.address}: version {version} of '{model}' did not finish its requests")
            time.sleep(_POLL_SECONDS)

    def ready_versions(self, model: str) -> set[str]:
        """Return the versions of a model that answer; raise ServerError if the server does not reply."""
        return {version for (name, version), state in self._states().items() if (name, state) == (model, "READY")}

    def instances(self, model: str) -> int:
        """Return the number of instances in a model's configuration; raise ServerError if the server does not reply."""
        try:
            config = self._client.get_model_config(model, as_json=True, client_timeout=_ASK_SECONDS)["config"]
        except InferenceServerException as error:
            raise ServerError(f"{self.address}: '{model}': {_reason(error)}") from None
        return sum(int(group.get("count", 1)) for group in config.get("instance_group", []))

    def _states(self) -> dict[tuple[str, str], str]:
        """Return the state of every model by name and version."""
        try:
            index = self._client.get_model_repository_index(
                headers=self._headers, as_json=True, client_timeout=_ASK_SECONDS
            )
        except InferenceServerException as error:
            raise ServerError(f"{self.address}: cannot say what it serves: {_reason(error)}; is it running?") from None
        models = index.get("models", [])
        return {(entry["name"], entry.get("version", "")): entry.get("state", "") for entry in models}


def _reason(error: InferenceServerException) -> str:
    """Return the model's own message, without its locations in Triton and in Python."""
    text = str(error.message()).split("\n\nAt:", 1)[0]
    return text.rsplit("Internal: ", 1)[-1].strip().rstrip(";")


def write_key(repository: Path, port: int, key: str) -> None:
    """Write a server's key into its repository, readable by its owner alone."""
    path = _key_file(repository, port)
    try:
        path.unlink(missing_ok=True)
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(key)
    except OSError:
        return  # a repository that cannot be written cannot be deployed to either


def remove_key(repository: Path, port: int) -> None:
    """Remove the key of a server that has ended."""
    with suppress(OSError):
        _key_file(repository, port).unlink(missing_ok=True)


def _read_key(repository: Path, port: str) -> str | None:
    path = _key_file(repository, port)
    return path.read_text(encoding="ascii") if path.is_file() else None


def _key_file(repository: Path, port: int | str) -> Path:
    return repository / f".admin-key-{port}"
