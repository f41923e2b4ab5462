"""A data set that takes its samples from a cache, as far as they are there and still right."""

import logging
from pathlib import Path

from gffnet.data.cache.entry import Mapped, Tiled, open_entry
from gffnet.data.cache.index import Index, Record, digest, entry_path, meaning, read_index, sample_key, state
from gffnet.data.dataset import Dataset, Opened

log = logging.getLogger("gffnet")


class Cached(Dataset):
    """`dataset`, with samples from the cache in `folder`.

    A sample whose files have changed since, or whose entry is missing or cut short, is read from its files: a cache
    changes how fast samples come, never which.

    Args:
        dataset: of one split or of several.
        root: its folder.
        folder: of the cache.
        indices: of its splits.
    """

    def __init__(self, dataset: Dataset, root: Path, folder: Path, indices: list[Index]) -> None:
        super().__init__(dataset.classes, dataset.files, dataset.table)
        self.dataset = dataset
        self.folder = folder
        self._meaning = meaning(dataset)
        self._entries: dict[int, tuple[Record, bool]] = {}
        known = {
            name: (record, index.compressed)
            for index in indices
            if index.meaning == self._meaning
            for name, record in index.records.items()
        }
        for i in range(len(dataset)):
            if (entry := known.get(sample_key(dataset, root, i))) is not None:
                self._entries[i] = entry
        self._states: dict[int, list[list[int]]] = {}
        self._warned = False

    @property
    def cached(self) -> int:
        """How many samples the cache knows."""
        return len(self._entries)

    def name(self, index: int) -> str:
        """The name of sample `index`."""
        return self.dataset.name(index)

    def meaning(self) -> str:
        """Of the data set."""
        return self.dataset.meaning()

    def class_pixels(self, index: int) -> dict[int, int] | None:
        """Pixels of every train id in a sample, if the cache knows them and its files are as they were."""
        if index not in self._entries or not self._is_fresh(index):
            return None
        return {int(label): pixels for label, pixels in self._entries[index][0].classes.items()}

    def _read(self, index: int) -> Opened:
        return self._entry(index) or self.dataset.open(index)

    def _entry(self, index: int) -> Mapped | Tiled | None:
        """The entry of a sample, if there is one and its files are as they were."""
        if index not in self._entries or not self._is_fresh(index):
            return None
        record, compressed = self._entries[index]
        return open_entry(entry_path(self.folder, record.digest, compressed), self.name(index))

    def _is_fresh(self, index: int) -> bool:
        """Whether the files of a sample are what its entry was made from."""
        record = self._entries[index][0]
        files = self.files[index]
        try:
            now = [state(file) for file in files]
            if now in (record.states, self._states.get(index)):
                return True
            if digest(self._meaning, files) == record.digest:  # copied or touched, but the same
                self._states[index] = now
                return True
        except OSError:
            pass  # reading it will say what is wrong
        del self._entries[index]
        if not self._warned:
            self._warned = True
            log.warning(
                "%s or its label map changed since it was cached. It is read instead, and so is every other that "
                "changed; gffnet data cache mends the cache.",
                files[0],
            )
        return False


def with_cache(dataset: Dataset, root: Path, splits: str, folder: Path) -> Dataset:
    """`dataset` with the cache in `folder`, if that has an index of one of its splits; else `dataset` itself.

    Raises:
        UserError: an index is damaged.
    """
    found = [index for split in splits.split("+") if (index := read_index(folder, split)) is not None]
    if not found:
        return dataset
    cached = Cached(dataset, root, folder, found)
    log.info("cache %s: %d of %d samples of %s", folder, cached.cached, len(dataset), splits)
    return cached
