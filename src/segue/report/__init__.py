"""Reports on runs: statistics over seeds, and one HTML file that opens anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.report.columns import tidy
    from segue.report.over_tasks import performance_profile, stratified_band
    from segue.report.pages import write_report, write_study
    from segue.report.pooling import pooled
    from segue.report.read import read_run
    from segue.report.run import Run
    from segue.report.statistics import (
        Dip,
        Interval,
        bootstrap_band,
        dip,
        evaluation_regret,
        interquartile_mean,
        interval,
        probability_of_improvement,
        stratified_bootstrap,
        training_failure_rate,
    )
else:
    __getattr__, __dir__ = face(__name__)

__all__ = [
    "Dip",
    "Interval",
    "Run",
    "bootstrap_band",
    "dip",
    "evaluation_regret",
    "interquartile_mean",
    "interval",
    "performance_profile",
    "pooled",
    "probability_of_improvement",
    "read_run",
    "stratified_band",
    "stratified_bootstrap",
    "tidy",
    "training_failure_rate",
    "write_report",
    "write_study",
]
