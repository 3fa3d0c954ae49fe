"""What docs/PYTHON.md says one can write, one can."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "song.mid", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs" / "PYTHON.md").read_text(encoding="utf-8"), re.M | re.S
    )
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert (tmp_path / "song.2.mid").read_bytes().startswith(b"MThd")
    alone, recalling = re.findall(r"^([\d.]+) bits per note$", capsys.readouterr().out, re.M)
    assert 0 < float(recalling) < float(alone)
