"""Pipelines of the model plane."""
