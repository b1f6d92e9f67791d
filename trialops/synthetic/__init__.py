"""Synthetic trials of any size, in the formats a sponsor receives, with known faults on request."""

from __future__ import annotations

from trialops.synthetic.generate import Summary, generate

__all__ = ["Summary", "generate"]
