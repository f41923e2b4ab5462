"""Split lists: text files that name one image a line."""

from pathlib import Path

from gffnet.errors import UserError


def read_list(path: Path) -> list[str]:
    """The images that a split list names, in its order: base names without folders and endings.

    Of a line that names more than one file, the first counts.

    Raises:
        UserError: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"split list {path} cannot be read ({error}). Restore it from the release.") from None
    return [Path(line.split()[0].replace("\\", "/")).stem for line in lines if line.strip()]
