"""The archive that the Cityscapes test server takes: a ZIP of PNGs that hold official label ids, one an image.

The official scorer looks for the result of `{city}_{sequence}_{frame}_gtFine_labelIds.png` anywhere among the files
that match `{city}_{sequence}_{frame}*.png`, and accepts exactly one. The archive is read again and checked against that
before it appears.
"""

import io
import re
import zipfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from gffnet.console import track
from gffnet.data.cityscapes import CITYSCAPES, EVALUATED, Cityscapes
from gffnet.data.dataset import class_difference
from gffnet.data.io import encode_image
from gffnet.errors import RunFailed, UserError
from gffnet.files import atomic_file
from gffnet.inference.batch import required
from gffnet.inference.predictor import Predictor
from gffnet.parallel import background_writer, prefetch
from gffnet.recipe import EvaluationRecipe

_LAYOUT = Cityscapes.layout
_NAME = re.compile(r"([^_]+_[^_]+_[^_]+)_leftImg8bit\.png")
_LABEL_IDS = np.array(EVALUATED, np.uint8)


def find_images(root: Path, split: str) -> dict[str, Path]:
    """Find the images of a split by `city_sequence_frame`; label maps need not be there.

    Raises:
        UserError: there is no such folder, split or image, or an image is not named as the scorer wants it.
    """
    there = _LAYOUT.present(root)
    if split not in there:
        held = f"there are: {', '.join(there)}" if there else "there is no leftImg8bit folder with splits"
        raise _LAYOUT.error(root, f"split {split!r} is not there ({held})")
    paths = [image for image, _ in _LAYOUT.pairs(root, split)]
    if not paths:
        raise _LAYOUT.error(root, f"split {split!r} holds no image")
    images: dict[str, Path] = {}
    for path in paths:
        parts = _NAME.fullmatch(path.name)
        if not parts:
            raise UserError(
                f"image {path} is not named city_sequence_frame_leftImg8bit.png, by which the official scorer finds "
                "results. Give it back its name."
            )
        if parts[1] in images:
            raise UserError(f"images {images[parts[1]]} and {path} have one name. Remove the one too many.")
        images[parts[1]] = path
    names = sorted(images)
    for name, following in pairwise(names):
        if following.startswith(name):
            raise UserError(f"image {images[name]}: the official scorer would take {following} for it. Rename one.")
    return images


def official_count(split: str) -> int:
    """Return the number of images of a split in the release."""
    return _LAYOUT.counts[split]


def write_submission(predictor: Predictor, images: dict[str, Path], out: Path, protocol: EvaluationRecipe) -> None:
    """Predict images into an archive, which appears once it is complete and checked.

    Args:
        predictor: a model of the 19 classes of Cityscapes.
        images: as `find_images` returns them.
        out: the archive to write.
        protocol: how an image is predicted.

    Raises:
        UserError: the model is of other classes, an image cannot be read, or the archive cannot be written.
        RunFailed: the archive is not as it should be.
    """
    check_classes(predictor)
    sizes: dict[str, tuple[int, int]] = {}
    with atomic_file(out) as file:
        paths = track(images.values(), "predicting", total=len(images))
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            background_writer(threads=1) as later,
            closing(prefetch(predictor.read, paths, threads=1)) as pixels,
        ):
            for name, image in zip(images, pixels, strict=True):
                sizes[name] = image.shape[1], image.shape[2]
                with required(predictor.device, sizes[name], images[name]):
                    predicted = predictor.predict(image, protocol)
                later(lambda name, labels: archive.writestr(f"{name}.png", label_ids(labels)), name, predicted)
        file.flush()
        check_archive(Path(file.name), sizes)


def check_classes(predictor: Predictor) -> None:
    """Raise `UserError` unless the classes of a model are those of Cityscapes."""
    config = predictor.config
    if config.classes != CITYSCAPES.names:
        raise UserError(
            f"model {config.recipe} knows the {len(config.classes)} classes of {config.dataset}, but the Cityscapes "
            f"server wants the {len(CITYSCAPES.names)} of Cityscapes: "
            f"{class_difference(config.classes, CITYSCAPES.names, 'the model', 'Cityscapes')}. Give a model that was "
            "trained on cityscapes or streets."
        )


def label_ids(train_ids: UInt8[np.ndarray, "h w"]) -> bytes:
    """Encode a label map as a PNG of official label ids."""
    return encode_image(Image.fromarray(_LABEL_IDS[train_ids]), "PNG")


def check_archive(archive: Path, sizes: dict[str, tuple[int, int]]) -> None:
    """Read an archive again and check names, sizes and label ids.

    Raises:
        RunFailed: it is damaged or holds anything else.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted, there = sorted(f"{name}.png" for name in sizes), sorted(opened.namelist())
            if wanted != there:
                odd = sorted(set(wanted) ^ set(there))
                raise RunFailed(f"the archive holds {len(there)} files for {len(wanted)} images: {', '.join(odd[:3])}.")
            for name, size in sizes.items():
                with Image.open(io.BytesIO(opened.read(f"{name}.png"))) as image:
                    ids = np.asarray(image)
                if ids.shape != size:
                    raise RunFailed(f"{name}.png in the archive is {ids.shape}, but its image is {size}.")
                if strange := set(np.unique(ids).tolist()) - set(EVALUATED):
                    raise RunFailed(f"{name}.png in the archive holds {min(strange)}: no label id that is scored.")
    except (OSError, zipfile.BadZipFile) as error:
        raise RunFailed(f"the archive cannot be read again ({error}); the disk may be failing. Run again.") from None
