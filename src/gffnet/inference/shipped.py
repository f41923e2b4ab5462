"""The model that ships with the package, which is meant where none is named."""

from pathlib import Path

import gffnet
from gffnet.errors import UserError

SHIPPED = Path(gffnet.__file__).with_name("pretrained") / "camvid_gffnet_r18"
"""Its model folder, with a card and a licence of its own."""


def shipped_model() -> Path:
    """The model folder.

    Raises:
        UserError: this installation lacks it.
    """
    if not SHIPPED.is_dir():
        raise UserError(
            "no model ships with this version. Train one, such as `gffnet train streets/gffnet_r18 --root DIR`, "
            "and name its run folder: --model runs/streets/gffnet_r18."
        )
    return SHIPPED
