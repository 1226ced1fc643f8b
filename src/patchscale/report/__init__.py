"""What people look at: the interactive page of a study, its figures for papers, and the live view of a running one.

Everything drawn in the project is drawn here, in one theme; values are copied from run directories, never refitted.
"""

from __future__ import annotations

from patchscale.report.api import build
from patchscale.report.figures import figures
from patchscale.report.live import watch

__all__ = ["build", "figures", "watch"]
