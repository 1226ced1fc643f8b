"""Images with what is said about them: captions and questions of scenes, glyph grids of known entropy, COCO, JSONL."""

from patchscale.data.captions.caption_set import CaptionSet
from patchscale.data.captions.exchange import END, PAD, Exchange, Speller, vocabulary, words
from patchscale.data.captions.load import CAPTION_SETS, load_captions, read_exchanges

__all__ = [
    "CAPTION_SETS",
    "END",
    "PAD",
    "CaptionSet",
    "Exchange",
    "Speller",
    "load_captions",
    "read_exchanges",
    "vocabulary",
    "words",
]
