"""Plots and reports read from a run's log."""
