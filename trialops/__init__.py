"""TrialOps: a clinical trial's data, models and documents, from site files to a monitored endpoint."""

__version__ = "0.1.0"
