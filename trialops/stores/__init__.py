"""Stores: lake, objects, database, vault, models, features; and the step that uses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trialops.stores.context import step

__all__ = ["step"]


def __getattr__(name: str) -> Any:
    """Import the step when it is asked for: the model server takes `stores.online` alone, without the settings."""
    if name == "step":
        from trialops.stores.context import step

        return step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
