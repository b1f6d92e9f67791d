"""Regulatory documents: submission exports (XPORT v5, Define-XML 2.1, Dataset-JSON 1.1) and what they rest on."""
