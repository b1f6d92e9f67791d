"""Check types: sdtm."""
