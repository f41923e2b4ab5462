"""Miniature data sets without a fault, for faults to be planted in, and how to find these."""

from pathlib import Path

from gffnet.data.check import Report, check_dataset
from gffnet.data.check.findings import Finding
from tests.data.trees import ids, picture, save

SIZE = (40, 48)
SPLITS = ("train", "val", "test")


def camvid(root: Path, samples: int = 3, listed: bool = True) -> Path:
    """CamVid's tree with all its splits; no two images are the same."""
    for number, split in enumerate(SPLITS):
        names = [f"{split}_{i:03d}.png" for i in range(samples)]
        for i, name in enumerate(names):
            save(root / split / name, picture(100 * number + i, SIZE))
            save(root / f"{split}annot" / name, ids(100 * number + i, 12, SIZE))
        if listed:
            write_list(root, split, names)
    return root


def write_list(root: Path, split: str, names: list[str]) -> None:
    """The list of a split of CamVid."""
    (root / f"{split}.txt").write_text("".join(f"/x/{split}/{name} /x/{split}annot/{name}\n" for name in names))


def cityscapes(root: Path, samples: int = 3) -> Path:
    """The Cityscapes tree with all its splits."""
    for number, split in enumerate(SPLITS):
        for i in range(samples):
            stem, seed = f"ulm_{i:06d}_000019", 100 * number + i
            save(root / "leftImg8bit" / split / "ulm" / f"{stem}_leftImg8bit.png", picture(seed, SIZE))
            save(root / "gtFine" / split / "ulm" / f"{stem}_gtFine_labelIds.png", ids(seed, 34, SIZE))
    return root


def check(root: Path, name: str = "camvid", split: str | None = None) -> Report:
    """Check, in this process."""
    return check_dataset(name, root, split, workers=1)


def only(report: Report, code: str) -> Finding:
    """The one finding of a code, which is the only one but for counts, which no miniature has right."""
    assert [finding.code for finding in report.findings if finding.code != "count"] == [code]
    (found,) = (finding for finding in report.findings if finding.code == code)
    return found
