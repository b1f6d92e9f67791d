"""Check types: anomaly."""
