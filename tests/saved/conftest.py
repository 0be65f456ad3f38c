"""The exported run."""

from exported import exported

__all__ = ["exported"]
