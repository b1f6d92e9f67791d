"""Pipelines of the infrastructure the platform stands on."""
