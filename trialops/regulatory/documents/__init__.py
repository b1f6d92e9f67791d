"""Regulatory and trial documents: their content, how they look, how they are kept, signed and checked."""
