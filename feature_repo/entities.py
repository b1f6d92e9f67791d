"""Entities."""

from trialops.stores.features import entity

subject = entity()
