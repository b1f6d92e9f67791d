"""Monitoring of models in use: drift of what they are fed and of what they answer."""
