"""Stores: lake, objects, database, vault, models, features; and the step that uses them."""

from trialops.stores.context import step

__all__ = ["step"]
