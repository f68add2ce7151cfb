"""Shows an experiment, alone or against another, as one self-contained HTML file."""

from __future__ import annotations

from plait.reports.inputs import ReportInput
from plait.reports.pages import render_report, write_report

__all__ = ["ReportInput", "render_report", "write_report"]
