"""Pipelines of alerting and notification."""
