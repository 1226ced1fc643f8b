"""Semantic segmentation: a plain encoder at any patch size with UperNet or one linear layer, trained and measured."""

from patchscale.tasks.segmentation.model import Segmenter
from patchscale.tasks.segmentation.options import Options
from patchscale.tasks.segmentation.task import Segmentation

__all__ = ["Options", "Segmentation", "Segmenter"]
