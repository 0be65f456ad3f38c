"""Who changes which release is current, why, and through which server."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ensemble.deploy.promote import Order
from ensemble.deploy.versions import Versions
from ensemble.triton.model_control import ModelControl


@contextmanager
def order_for(versions: Versions, address: str | None, reason: str | None, by: str | None) -> Iterator[Order]:
    """Yield who wants something and why, connected to the server that is to do it, where there is one."""
    who = by or _user()
    if address is None:
        yield Order(who, reason)
        return
    with ModelControl(address, versions.repository.absolute()) as control:
        yield Order(who, reason, control)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # in a container, say: a user id without a name
        return f"user {os.getuid()}"
