"""Individual case safety reports as ICH E2B(R3) messages: the elements, reading, writing."""
