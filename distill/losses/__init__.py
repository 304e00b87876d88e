"""Objectives as small callables: a network, a schedule, clean data, noise and times in; a scalar out."""
