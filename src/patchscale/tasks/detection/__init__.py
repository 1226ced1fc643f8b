"""Detection and instance segmentation: (Cascade) Mask R-CNN on a plain encoder of any patch size.

Built of torchvision's anchors, proposals and ROIAlign; a feature pyramid from one token grid; AP by pycocotools.
"""

from patchscale.tasks.detection.model import Detector
from patchscale.tasks.detection.options import Options
from patchscale.tasks.detection.task import Detection

__all__ = ["Detection", "Detector", "Options"]
