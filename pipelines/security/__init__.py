"""Pipelines of security and privacy."""
