"""The results of closing gates as files.

OUT/ablation.json                       all scores, and the protocol that they were measured with
OUT/ablation.md                         the same as tables
OUT/by_class.png, OUT/by_distance.png   the same as figures
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gffnet.analysis.ablation.figures import class_figure, distance_figure
from gffnet.analysis.ablation.tables import all_tables, title_of
from gffnet.data.images import write_image
from gffnet.evaluation.tables import markdown
from gffnet.files import write_whole


def write_ablation(out: Path, record: Mapping[str, Any]) -> None:
    """Write all of them, each whole or not at all; `ablation.json`, the last, tells that all are there.

    Raises:
        CannotWrite: a file cannot be written.
    """
    write_image(out / "by_class.png", class_figure(record))
    write_image(out / "by_distance.png", distance_figure(record))
    write_whole(out / "ablation.md", markdown(title_of(record), all_tables(record)).encode())
    write_whole(out / "ablation.json", (json.dumps(record, indent=1) + "\n").encode())
