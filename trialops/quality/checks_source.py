"""Check types: source."""
