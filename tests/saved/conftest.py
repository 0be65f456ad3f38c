"""The exported run."""

from tests.exported import exported

__all__ = ["exported"]
