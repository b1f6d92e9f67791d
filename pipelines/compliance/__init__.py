"""Pipelines of conduct and reporting: cohorts, progress, regulatory reports."""
