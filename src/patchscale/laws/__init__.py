"""Laws fitted to tables: forms, robust multi-start fits, honest intervals, comparison, frontiers, published numbers.

Needs numpy, scipy and pandas alone. Start with `fit`; `list_forms()` says what can be fitted, `register` adds a form.
"""

from patchscale.laws import axis_forms, joint_forms, repeats, vlm_theory
from patchscale.laws.compare import Comparison, compare
from patchscale.laws.crossings import crossings
from patchscale.laws.fitting import fit
from patchscale.laws.forms import Form, Parameter, get_form, list_forms, register
from patchscale.laws.frontier import compute_optimal, optimal_allocation, pareto
from patchscale.laws.interaction import interaction_test
from patchscale.laws.inversion import equivalent
from patchscale.laws.kept_tokens import kept_tokens
from patchscale.laws.law import Law, Param
from patchscale.laws.minimum_tokens import minimum_tokens
from patchscale.laws.paired import paired_differences
from patchscale.laws.published import published
from patchscale.laws.published_laws import (
    published_extrapolation,
    published_grid,
    published_interaction,
    published_laws,
    published_series,
    vlm_comparison,
    vlm_summary,
)
from patchscale.laws.repeated_data import repeated_data
from patchscale.laws.vision_tokens import published_vlm, vision_tokens

__all__ = [
    "Comparison",
    "Form",
    "Law",
    "Param",
    "Parameter",
    "axis_forms",
    "compare",
    "compute_optimal",
    "crossings",
    "equivalent",
    "fit",
    "get_form",
    "interaction_test",
    "joint_forms",
    "kept_tokens",
    "list_forms",
    "minimum_tokens",
    "optimal_allocation",
    "paired_differences",
    "pareto",
    "published",
    "published_extrapolation",
    "published_grid",
    "published_interaction",
    "published_laws",
    "published_series",
    "published_vlm",
    "register",
    "repeated_data",
    "repeats",
    "vision_tokens",
    "vlm_comparison",
    "vlm_summary",
    "vlm_theory",
]
