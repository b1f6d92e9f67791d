"""Pipelines: features."""
