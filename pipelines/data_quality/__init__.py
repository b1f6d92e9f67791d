"""Pipelines of data quality, standardisation and correction."""
