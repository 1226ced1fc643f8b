"""Images with boxes and masks: COCO json, Pascal VOC and generated scenes, checked as they are read.

`load_boxes(DataSpec(...), split)` gives a `BoxSet`; a `Placement` says where an image lies on a batch's canvas.
"""

from patchscale.data.boxes.box_set import BoxSet, Target
from patchscale.data.boxes.geometry import Placement, fitted, jittered, mirror_boxes
from patchscale.data.boxes.load import BOX_SETS, load_boxes
from patchscale.data.boxes.record import Record

__all__ = ["BOX_SETS", "BoxSet", "Placement", "Record", "Target", "fitted", "jittered", "load_boxes", "mirror_boxes"]
