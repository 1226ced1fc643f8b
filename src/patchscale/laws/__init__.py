"""Laws fitted to tables: forms, robust multi-start fits, honest intervals, comparison, frontiers, published numbers.

Needs numpy, scipy and pandas alone. Start with `fit`; `list_forms()` says what can be fitted, `register` adds a form.
"""

from patchscale.laws import axis_forms, joint_forms, repeats, vlm_theory
from patchscale.laws.crossings import crossings
from patchscale.laws.fitting import fit
from patchscale.laws.forms import Form, Parameter, get_form, list_forms, register
from patchscale.laws.law import Law, Param
from patchscale.laws.paired import paired_differences
from patchscale.laws.published import published

__all__ = [
    "Form",
    "Law",
    "Param",
    "Parameter",
    "axis_forms",
    "crossings",
    "fit",
    "get_form",
    "joint_forms",
    "list_forms",
    "paired_differences",
    "published",
    "register",
    "repeats",
    "vlm_theory",
]
