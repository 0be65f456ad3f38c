"""Checks that a running server answers with the newest changes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.layouts import CHAINED, FUSED
from ensemble.serving.files.release import Release
from ensemble.serving.names import RELEASE
from workflows.errors import ServerError

_PAUSE_SECONDS = 0.05


def check_in_force(address: str, sequence: int, release: Release, timeout_s: float = 10.0) -> str:
    """Wait until a server answers with the changes up to `sequence`.

    Parameters
    ----------
    address
        host:port of its gRPC endpoint.
    sequence
        Number of the last change.
    release
        The release that the changes follow.
    timeout_s
        How long to wait, in seconds.

    Returns
    -------
    str
        The release that the server names in its answers, such as `566afa9a+7`.

    Raises
    ------
    ServerError
        It does not answer, serves a release to which the changes do not apply, or still answers without them after
        `timeout_s`.
    """
    deadline, serves = time.monotonic() + timeout_s, ""
    user = "" if release.manifest["id_dtype"]["user_id"] == "string" else -1
    with grpc.InferenceServerClient(address, **channel_options(address)) as channel:
        model = _model(channel, address)
        while time.monotonic() < deadline:
            serves = _release(channel, model, user, address)
            _check_kin(serves, release, address)
            if sequence_of(serves) >= sequence:
                return serves
            time.sleep(_PAUSE_SECONDS)
    raise ServerError(
        f"{address}: answers with {serves}, not with change {sequence}: it watches another directory, or has refused a "
        "package; its log has the reason"
    )


def sequence_of(release: str) -> int:
    """Return the number of changes in the `release` of an answer: 7 for `566afa9a+7`."""
    return int(release.partition("+")[2] or 0)


def _check_kin(serves: str, release: Release, address: str) -> None:
    """Raise ServerError for a release that does not count the same changes."""
    kin = {release.manifest["release"], release.origin["lineage"]}
    if serves.partition("+")[0] not in kin:
        raise ServerError(
            f"{address}: serves release {serves}, not {release.manifest['release']}; the change is written, but "
            "whether it is in force there cannot be told: name the release that the server has"
        )


def _model(channel: Any, address: str) -> str:
    try:
        return next(name for name in (FUSED, CHAINED) if channel.is_model_ready(name))
    except StopIteration:
        raise ServerError(f"{address}: serves no model of ours that is ready") from None
    except InferenceServerException as error:
        raise ServerError(f"{address}: {error.message()}") from None


def _release(channel: Any, model: str, user: Any, address: str) -> str:
    is_text = isinstance(user, str)
    user_id = grpc.InferInput("user_id", [1, 1], "BYTES" if is_text else "INT64")
    user_id.set_data_from_numpy(np.array([[user]], dtype=object if is_text else np.int64))
    try:
        result = channel.infer(model, [user_id], outputs=[grpc.InferRequestedOutput(RELEASE)], client_timeout=5)
    except InferenceServerException as error:
        raise ServerError(f"{address}: {error.message()}") from None
    return bytes(result.as_numpy(RELEASE)[0, 0]).decode()
