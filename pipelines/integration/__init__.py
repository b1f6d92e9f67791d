"""Pipelines that take in what others measured."""
