"""What is said of the package as a whole."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_checkpoints_licence_is_the_packages_too() -> None:
    names = {name.lower(): name for name in PROJECT["license"].split(" AND ")}
    cards = sorted((ROOT / "checkpoints").glob("*/README.md"))
    assert len(cards) >= 9
    for card in cards:
        named = re.search(r"^license: (\S+)$", card.read_text(encoding="utf-8"), re.MULTILINE)
        assert named is not None, card
        assert (ROOT / "LICENSES" / f"{names[named.group(1)]}.txt").is_file(), card
