"""Recordings from the command line: train on a folder, continue a file, look at its tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_runs import TINY, TWO_STEPS

from adaptgen.domains.speech.pitch import track_pitch

Run = Callable[..., tuple[int, str, str]]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def trained(adaptgen_here: Run) -> str:
    code, _, err = adaptgen_here("train", "recipes/speech.yaml", *TINY, *TWO_STEPS)
    assert code == 0, err
    return "runs/speech/best"


def test_train_continue_tokenize_eval_inspect(adaptgen_here: Run, trained: str, tmp_path: Path) -> None:
    card = (tmp_path / trained / "README.md").read_text()
    assert "adaptgen continue talk.wav --checkpoint runs/speech/best" in card
    assert "bits per second" in card
    talk = EXAMPLES / "talk.wav"
    arguments = ("continue", talk, "--checkpoint", trained, "--seed", 1, "--json", "--seconds", 0.6)
    code, out, err = adaptgen_here(*arguments, "--variations", 2, "--picture")
    assert code == 0, err
    reports = json.loads(out)
    assert [report["files"] for report in reports] == [
        [f"talk.continued.{number}.wav", f"talk.continued.{number}.png"] for number in (1, 2)
    ]
    old, rate = soundfile.read(talk, dtype="int16")
    for report in reports:
        new, _ = soundfile.read(tmp_path / report["files"][0], dtype="int16")
        assert (new[: len(old)] == old).all()
        assert len(new) - len(old) == report["samples"] == 0.6 * rate
    code, out, err = adaptgen_here(*arguments, "--new-only", "-o", "new.FLAC")
    assert code == 0, err
    assert json.loads(out)[0]["files"] == ["new.FLAC"]
    assert soundfile.info(tmp_path / "new.FLAC").format == "FLAC"
    assert soundfile.info(tmp_path / "new.FLAC").frames == 9600
    code, out, err = adaptgen_here("tokenize", talk, "--checkpoint", trained, "--roundtrip", "--json")
    assert code == 0, err
    report = json.loads(out)
    assert (report["frames"], report["codebooks"], report["bits_per_second"]) == (80, 10, 2450)
    code, out, _ = adaptgen_here("tokenize", talk, "--checkpoint", trained)
    assert out.splitlines()[0] == "<begin>"
    assert len(out.splitlines()[20].split()) == 10
    code, out, err = adaptgen_here("eval", "--checkpoint", trained, "--dataset", "speech", "--limit", 2, "--json")
    assert code == 0, err
    figures = json.loads(out)["models"][0]
    assert 0 < figures["bits_per_second"]["value"] < 3000
    of_codebooks = [bits["value"] for bits in figures["bits_per_second_by_codebook"]]
    assert len(of_codebooks) == 10
    assert sum(of_codebooks) == pytest.approx(figures["bits_per_second"]["value"])
    code, out, err = adaptgen_here("inspect", talk, "--checkpoint", trained, "--json")
    assert code == 0, err
    assert {"voiced", "unvoiced"} <= set(json.loads(out)["averages"]["by_kind"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("continue", "talk.wav", "--bars", 3), "--bars says nothing about speech"),
        (("continue", "talk.wav", "-o", "talk.mp3"), "a .mp3 file would not hold the recording as it is"),
        (("continue", "text.wav"), "text.wav is no sound that can be read"),
        (("continue", "missing.wav"), "missing.wav cannot be read: No such file"),
        (("render", "talk.wav", "-o", "other.wav"), "talk.wav is sound already"),
        (("continue", "song.mid", "--from-seconds", 3), "--from-seconds says nothing about music"),
    ],
)
def test_what_makes_no_sense_is_said(
    adaptgen_here: Run, trained: str, tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    for name in ("talk.wav", "song.mid"):
        (tmp_path / name).write_bytes((EXAMPLES / name).read_bytes())
    (tmp_path / "text.wav").write_text("no sound")
    if arguments[0] == "continue" and arguments[1] != "song.mid":
        arguments = (*arguments, "--checkpoint", trained)
    before = sorted(tmp_path.iterdir())
    code, _, err = adaptgen_here(*arguments)
    assert code in (1, 2)
    assert expected in err
    assert "Traceback" not in err
    assert sorted(tmp_path.iterdir()) == before


def test_the_shipped_checkpoint_goes_on_speaking(adaptgen_here: Run, tmp_path: Path) -> None:
    """Also from a recording that ends in silence: now voiced and now not, at a pitch that people have, and no hiss."""
    code, _, err = adaptgen_here("continue", EXAMPLES / "talk.wav", "--seconds", 4, "--seed", 0, "--new-only")
    assert code == 0, err
    new, rate = soundfile.read(tmp_path / "talk.continued.wav", dtype="float32")
    assert len(new) == 4 * rate == 64_000
    hz, strength = track_pitch(new, hop=320, sample_rate_hz=rate)
    is_voiced = strength > 0
    assert 0.2 < is_voiced.mean() < 0.95
    assert 120 < np.median(hz[is_voiced]) < 300, "the recording's is 200 Hz or so"
    levels = 20 * np.log10(np.sqrt((new.reshape(-1, 320) ** 2).mean(axis=1)) + 1e-6)
    assert np.ptp(np.quantile(levels, [0.05, 0.95])) > 20, "sounds and pauses"
