"""Published recipes by name: tables whose every value says whether it is the paper's, the code's or ours.

`resolve` turns a recipe's or plan's name and a model's into the keys of a trial, and says where each value comes from.
"""

from patchscale.training.recipes.resolve import Choice, Resolved, resolve
from patchscale.training.recipes.table import Plan, Table, load_plan, load_table, plan_names, recipe_names

__all__ = [
    "Choice",
    "Plan",
    "Resolved",
    "Table",
    "load_plan",
    "load_table",
    "plan_names",
    "recipe_names",
    "resolve",
]
