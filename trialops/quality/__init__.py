"""Data quality: rules as data, one engine, a score with a gate."""
