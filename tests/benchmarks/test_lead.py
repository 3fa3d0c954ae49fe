"""Where one model is ahead of another: frames are sorted as it says, and each sort adds up to the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptgen.domains.text.tokenizer import TextTokenizer

ROOT = Path(__file__).parents[2]


def test_frames_are_sorted_by_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from lead import sort_frames

    letters = np.frombuffer(b"abcabcabd", dtype=np.uint8)[None].astype(np.int64)
    found = sort_frames(letters, TextTokenizer(), context=2)
    new, again, other = "not there before", "followed as before", "followed otherwise"
    assert found["the 2 frames before"].tolist() == [new, new, new, new, again, again, again, other]
    ages = found["the same frame was, frames ago"].tolist()
    assert ages == ["never", "never", *["1 to 8"] * 5, "never"]
    assert set(found["frames of past"]) == {"1 to 8"}


def test_each_sort_adds_up_to_the_difference(tmp_path: Path) -> None:
    names = ("--baseline", "text-twin-plain", "--checkpoint", "text-twin-shortcut")
    where = ("--data", ROOT / "examples" / "text", "-o", tmp_path / "lead.json", "--limit", "3")
    subprocess.run([sys.executable, ROOT / "benchmarks" / "lead.py", *names, *where], check=True, capture_output=True)
    whole, *sorts = json.loads((tmp_path / "lead.json").read_text())["sorts"].values()
    (everything,) = whole.values()
    assert everything["frames"] > 1000
    assert len(sorts) == 4
    for rows in sorts:
        assert sum(row["frames"] for row in rows.values()) == everything["frames"]
        added = sum(row["difference_per_unit"] for row in rows.values())
        assert added == pytest.approx(everything["difference_per_unit"])
