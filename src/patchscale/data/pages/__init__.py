"""Long page images, as in PaperScope: PDFs become one stitched image a paper with a page table, and are read in bands.

`build_pages` makes such a set; `load_documents` reads it, page images of any paper, or a folder of stitched images;
`load_pages` makes labelled images of it.
"""

from patchscale.data.pages.build import build_pages
from patchscale.data.pages.documents import Document, Page, load_documents
from patchscale.data.pages.images import is_page_set, load_pages
from patchscale.data.pages.labels import line_density

__all__ = ["Document", "Page", "build_pages", "is_page_set", "line_density", "load_documents", "load_pages"]
