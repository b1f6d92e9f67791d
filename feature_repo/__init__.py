"""Feast repository, applied with `TRIALOPS_HOME=... feast -c feature_repo apply` from the root of the project."""
