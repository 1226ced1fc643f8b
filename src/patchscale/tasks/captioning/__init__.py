"""Vision tokens in a vision-language model: encoder, causal fusion with nested queries, bottleneck, language model."""

from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.captioning.task import Captioning

__all__ = ["Captioning", "Options", "VisionLanguageModel"]
