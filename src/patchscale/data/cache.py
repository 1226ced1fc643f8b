"""Decode once: pixels at one size are kept on disk as a memory map, so the next trial loads them in a moment.

An entry is a folder `<key>/{pixels.npy, about.json}`, moved into place when complete; the key covers file names, sizes,
modification times, input size and everything else that decides the pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from patchscale.data.decode import open_image, worker_threads
from patchscale.data.progress import Progress
from patchscale.data.sources import Source
from patchscale.errors import InputError
from patchscale.files import cache_folder, write_json

log = logging.getLogger("patchscale.data")
FORMAT = 1  # raise when the decoding changes, so that older entries are not used


def key_of(files: Sequence[Path | str], **facts: Any) -> str:
    """A name for what `facts` make of `files`: depends on every file's path, size and modification time."""
    digest = hashlib.sha256(json.dumps([FORMAT, facts], sort_keys=True).encode())
    for file in files:
        status = os.stat(file)
        digest.update(f"\n{os.path.abspath(file)}\t{status.st_size}\t{status.st_mtime_ns}".encode())
    return digest.hexdigest()[:32]


def entry(key: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The cache entry `key`, made by `make(folder)` if it is not there yet.

    Processes that want the same entry at once wait for the first; one killed half-way leaves nothing that counts.

    Args:
        key: from `key_of`.
        make: writes files into an empty folder and returns the facts for about.json.

    Returns:
        the entry's folder and its facts.

    Raises:
        InputError: the cache folder cannot be written.
    """
    root = cache_folder() / "pixels"
    folder = root / key
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / f".{key}.lock")
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"cannot write to the cache folder {root}: {error.strerror}; "
            "set PATCHSCALE_CACHE to a folder that can be written"
        ) from error
    try:
        if not (folder / "about.json").is_file():
            for left_over in root.glob(f".{key}.*/"):
                shutil.rmtree(left_over)
            temporary = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=root))
            try:
                facts = make(temporary)
                write_json(temporary / "about.json", facts)
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(temporary, folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    finally:
        lock.release()
    return folder, json.loads((folder / "about.json").read_text())


def decode_to_memory_map(
    source: Source, folder: Path, size: tuple[int, int], view: Callable[[Any], np.ndarray], policy: str
) -> tuple[np.ndarray, list[str]]:
    """Decodes every image of `source` into `folder/pixels.npy`, uint8 [kept, 3, H, W], with worker threads.

    Args:
        source: encoded images.
        folder: where to write.
        size: (H, W).
        view: from a decoded RGB image to uint8 [3, H, W].
        policy: "fail" or "skip" for unreadable images.

    Returns:
        kept positions of the source, ascending, and one line for each image left out.

    Raises:
        InputError: an unreadable image under "fail", naming it, or too little disk space.
    """
    shape = (len(source), 3, *size)
    need, free = int(np.prod(shape)), shutil.disk_usage(folder).free
    if need > free:
        raise InputError(
            f"{need / 2**30:.1f} GiB of decoded pixels do not fit into {folder.parent} ({free / 2**30:.1f} GiB free); "
            "point PATCHSCALE_CACHE elsewhere, or lower memory_gib to decode while reading"
        )
    progress = Progress(len(source), f"decoding images to {size[0]}x{size[1]}, once")
    pixels = np.lib.format.open_memmap(folder / "all.npy", mode="w+", dtype=np.uint8, shape=shape)
    bad: dict[int, str] = {}
    stop = threading.Event()

    def work(part: int) -> None:
        try:
            for index, content in source.stream(part):
                if stop.is_set():
                    return
                try:
                    pixels[index] = view(open_image(content, source.names[index], skippable=policy == "fail"))
                except InputError as error:
                    if policy == "fail":
                        raise
                    bad[index] = str(error)
                progress.add()
        except BaseException:
            stop.set()
            raise

    with ThreadPoolExecutor(worker_threads()) as pool:
        for _ in pool.map(work, range(source.parts())):
            pass
    kept = np.asarray([index for index in range(len(source)) if index not in bad], dtype=np.int64)
    pixels.flush()
    if bad:
        chosen = np.lib.format.open_memmap(
            folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=(len(kept), *shape[1:])
        )
        for start in range(0, len(kept), 1024):
            chosen[start : start + 1024] = pixels[kept[start : start + 1024]]
        chosen.flush()
        (folder / "all.npy").unlink()
    else:
        (folder / "all.npy").rename(folder / "pixels.npy")
    return kept, [bad[index] for index in sorted(bad)]
