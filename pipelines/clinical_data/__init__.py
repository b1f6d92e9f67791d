"""Pipelines of the clinical data plane."""
