"""`adaptgen codec`: what is encoded is decoded, and a codec of one's own can be fitted and used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from adaptgen.domains.speech.codec_tools import SpeechCodecTools
from adaptgen.domains.speech.codecs import load_codec

Run = Callable[..., tuple[int, str, str]]
EXAMPLES = Path(__file__).parents[2] / "examples"
TALK = EXAMPLES / "talk.wav"


def test_encode_decode_score(adaptgen_here: Run, tmp_path: Path) -> None:
    code, out, err = adaptgen_here("codec", "encode", TALK, "--json")
    assert code == 0, err
    assert json.loads(out)["file"] == "talk.safetensors"
    codes = load_file(tmp_path / "talk.safetensors")["codes"]
    assert codes.shape == (10, 80)
    assert codes.dtype == np.uint16
    for arguments in ((), ("--codebooks", 3, "-o", "coarse.wav")):
        code, out, err = adaptgen_here("codec", "decode", "talk.safetensors", *arguments)
        assert code == 0, err
    original, rate = soundfile.read(TALK)
    decoded, decoded_rate = soundfile.read(tmp_path / "talk.decoded.wav")
    assert (len(decoded), decoded_rate) == (len(original), rate)
    assert decoded.std() == pytest.approx(original.std(), rel=0.3), "in its own level"
    assert (soundfile.read(tmp_path / "coarse.wav")[0] != decoded).any()
    code, out, err = adaptgen_here("codec", "score", TALK, "--json")
    assert code == 0, err
    rows = json.loads(out)
    assert [row["codebooks"] for row in rows] == list(range(1, 11))
    assert rows[-1]["mel_distance_db"] < rows[2]["mel_distance_db"] < rows[0]["mel_distance_db"]
    assert rows[-1]["bits_per_second"] == 2450


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda codes: np.concatenate([codes, codes[:2]]), "has 12 streams, the codec source_filter 10"),
        (lambda codes: np.where(codes == codes[0, 0], -1, codes), "has a code that the codec source_filter has not"),
        (lambda codes: codes + 5000, "has a code that the codec source_filter has not"),
        (lambda codes: codes.astype(np.float32), "holds no codes"),
        (lambda codes: codes[:0], "holds no codes"),
        (lambda codes: codes[:, :0], "holds no codes"),
    ],
)
def test_codes_of_no_codec_are_refused(
    adaptgen_here: Run, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], expected: str
) -> None:
    path = tmp_path / "talk.safetensors"
    path.write_bytes(SpeechCodecTools().encode(TALK, codec=None, weights=None))
    with safe_open(path, framework="numpy") as file:
        about, codes = file.metadata(), file.get_tensor("codes").astype(np.int32)
    save_file({"codes": np.ascontiguousarray(change(codes))}, path, metadata=about)
    code, _, err = adaptgen_here("codec", "decode", path)
    assert code == 1
    assert expected in err
    assert not (tmp_path / "talk.decoded.wav").exists()


def test_a_codec_of_ones_own(adaptgen_here: Run, tmp_path: Path) -> None:
    code, out, err = adaptgen_here("codec", "fit", EXAMPLES / "speech", "-o", "mine", "--network-steps", 0, "--json")
    assert code == 0, err
    assert json.loads(out)["files"] == 22
    code, _, err = adaptgen_here("codec", "encode", TALK, "--weights", "mine")
    assert code == 0, err
    code, _, err = adaptgen_here("codec", "decode", "talk.safetensors")
    assert code == 1
    assert "Name its weights with --weights" in err
    code, _, err = adaptgen_here("codec", "decode", "talk.safetensors", "--weights", "mine")
    assert code == 0, err
    tiny = ("model.model_dim=32", "model.num_layers=2", "training.num_threads=1", "training.validate_every=1")
    settings = [part for setting in tiny for part in ("--set", setting)]
    code, _, err = adaptgen_here("train", "speech", "--steps", 1, *settings, "--set", "tokenizer.codec_weights=mine")
    assert code == 0, err
    # The checkpoint has the codec in it.
    (tmp_path / "mine" / "codec.safetensors").unlink()
    code, _, err = adaptgen_here("continue", TALK, "--seconds", 0.3, "--checkpoint", "runs/speech/best")
    assert code == 0, err


def test_ones_own_voice_under_a_checkpoint_that_knows_the_codes(adaptgen_here: Run, tmp_path: Path) -> None:
    fit = ("codec", "fit", EXAMPLES / "speech", "--json")
    code, out, err = adaptgen_here(*fit, "-o", "mine", "--network-steps", 3, "--keep-books")
    assert code == 0, err
    assert json.loads(out)["network_steps"] == load_codec().about["network_steps"] + 3
    code, _, err = adaptgen_here(*fit, "-o", "other", "--network-steps", 0)
    assert code == 0, err
    tiny = ("model.model_dim=32", "model.num_layers=2", "training.num_threads=1", "training.validate_every=1")
    settings = [part for setting in tiny for part in ("--set", setting)]
    code, _, err = adaptgen_here("train", "speech", "--steps", 1, *settings)
    assert code == 0, err
    go_on = ("continue", TALK, "--seconds", 0.5, "--checkpoint", "runs/speech/best", "--seed", 1)
    for name, arguments in (("own.wav", ("--codec", "mine")), ("shipped.wav", ())):
        code, _, err = adaptgen_here(*go_on, "-o", name, *arguments)
        assert code == 0, err
    (old, _), (own, _), (shipped, _) = (
        soundfile.read(path) for path in (TALK, tmp_path / "own.wav", tmp_path / "shipped.wav")
    )
    assert (own[: len(old)] == shipped[: len(old)]).all()
    assert (own[len(old) :] != shipped[len(old) :]).any(), "the same codes by another network"
    code, _, err = adaptgen_here(*go_on, "-o", "refused.wav", "--codec", "other")
    assert code == 1
    assert "the codec in other has other codes than the checkpoint has learned" in err
    assert not (tmp_path / "refused.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("encode", EXAMPLES / "song.mid"), "is music, which goes through no codec"),
        (("encode", TALK, "--codec", "mp4"), "there is no codec 'mp4'"),
        (("encode", TALK, "--weights", "."), "cannot be used"),
        (("decode", TALK), "holds no codes"),
        (("decode", "missing.safetensors"), "missing.safetensors cannot be read: No such file"),
        (("decode", ".", "-o", "talk.wav"), ". cannot be read: Is a directory"),
        (("fit", "."), "has no speech files"),
        (("fit", "nowhere"), "there is no folder nowhere"),
        (("score", "missing.wav"), "missing.wav cannot be read: No such file"),
    ],
)
def test_what_makes_no_sense_is_said(
    adaptgen_here: Run, tmp_path: Path, arguments: tuple[object, ...], expected: str
) -> None:
    code, _, err = adaptgen_here("codec", *arguments)
    assert code in (1, 2)
    assert expected in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
