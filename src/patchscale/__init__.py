"""patchscale: measure, fit and use the scaling laws of visual tokens.

Rooms: tokens, mixers, models, tasks, data, training, studies, laws, cost, report; each is imported on its own.
Importing this package loads no torch.
"""

from importlib.metadata import version

__version__ = version("patchscale")
