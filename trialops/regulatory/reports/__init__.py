"""Periodic reports of a trial: what each of them contains, made from one data cut."""
