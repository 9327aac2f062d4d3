"""Files of a folder of finished pictures. Reports need no torch for them."""

from __future__ import annotations

import json
from pathlib import Path

LIST = "pictures.json"


def read_captions(folder: Path) -> dict[str, str]:
    """Captions of the pictures, by the name of the figure."""
    captions: dict[str, str] = json.loads((folder / LIST).read_text(encoding="utf-8"))
    return captions
