"""The synthetic run whose queries have a history."""

from synthetic import dated_run

__all__ = ["dated_run"]
