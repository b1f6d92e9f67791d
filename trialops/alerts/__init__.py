"""Alerts: what happened, to those who must know, without a subject's data."""
