"""Pictures of comparisons, as they stand in docs/BENCHMARKS.md."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from matplotlib import image

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("compare_*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_nothing_is_cut_at_the_edge(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    from report import draw

    draw(json.loads(path.read_text(encoding="utf-8")), tmp_path / "picture.png")
    is_white = (image.imread(tmp_path / "picture.png")[..., :3] == 1).all(axis=2)
    assert not is_white.all()
    for side in (is_white[0], is_white[-1], is_white[:, 0], is_white[:, -1]):
        assert side.all()
