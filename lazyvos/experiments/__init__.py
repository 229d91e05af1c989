"""Experiments: a tracker, a data set, a user and a seed in; a tidy table out. Published tables beside our own numbers."""

from __future__ import annotations

from lazyvos.experiments.data import open_dataset
from lazyvos.experiments.engine import Report, Result, Run, collect, run, run_table
from lazyvos.experiments.experiment import Experiment
from lazyvos.experiments.frame import export, save, summary, tidy
from lazyvos.experiments.significance import Comparison, compare, paired_bootstrap

__all__ = [
    "Comparison", "Experiment", "Report", "Result", "Run", "collect", "compare", "export", "open_dataset", "paired_bootstrap",
    "run", "run_table", "save", "summary", "tidy",
]  # fmt: skip
