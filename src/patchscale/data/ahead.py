"""Reading ahead: the next batches are decoded while the current one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from patchscale.data.image_set import Crop, ImageSet, Indices


def read_ahead(
    images: ImageSet, wanted: Iterable[tuple[Indices, Crop | None]], *, depth: int = 2
) -> Iterator[tuple[Indices, Tensor]]:
    """Reads batches in order, up to `depth` of them before they are asked for.

    Args:
        images: the set.
        wanted: (indices, crop) of each batch; may be endless.
        depth: batches held ready; 0 reads when asked.

    Yields:
        (indices, uint8 [B, 3, H, W]). What reading a batch raises is raised where that batch would have come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        ready: deque[tuple[Indices, Future[Tensor]]] = deque()
        try:
            for indices, crop in wanted:
                ready.append((indices, pool.submit(images.read, indices, crop)))
                if len(ready) > depth:
                    first, future = ready.popleft()
                    yield first, future.result()
            while ready:
                first, future = ready.popleft()
                yield first, future.result()
        finally:
            for _, future in ready:
                future.cancel()
