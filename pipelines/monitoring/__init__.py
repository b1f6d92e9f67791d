"""Pipelines of the monitoring."""
