"""EnCodec behind the same interface, with random weights of its architecture: its published ones are not to be had."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from voices import voice

from adaptgen.checkpoint import Checkpoint
from adaptgen.config import ModelConfig
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.encodec import EncodecCodec, new_model
from adaptgen.domains.speech.tokenizer import SpeechTokenizer
from adaptgen.errors import CheckpointError, RecipeError, UsageError
from adaptgen.model import Transformer
from adaptgen.sampling import Sampling


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encodec")
    try:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = new_model()
            # Its default weights let the signal vanish, and books of zeros tell nothing apart.
            with torch.no_grad():
                for layer in model.quantizer.vq.layers:
                    layer._codebook.embed.normal_()
                    layer._codebook.inited.fill_(True)
    except UsageError as error:
        pytest.skip(str(error))
    EncodecCodec(model).save(folder)
    return folder


@pytest.mark.parametrize("length", [1, 320, 321, 24_000])
def test_any_length_goes_through(weights: Path, length: int) -> None:
    codec = load_codec("encodec_24khz", weights=weights)
    codes = codec.encode(voice(1, sample_rate_hz=24_000)[:length].astype(np.float32))
    assert codes.shape == (32, -(-length // 320))
    assert codes.min() >= 0
    assert codes.max() < 1024
    for count in (2, 4, 8, 16, 32):
        decoded = codec.decode(codes[:count])
        assert decoded.shape == (codes.shape[1] * 320,)
        assert np.isfinite(decoded).all()
    assert (codec.encode(voice(1, sample_rate_hz=24_000)[:length].astype(np.float32)) == codes).all()


def test_it_is_what_the_package_computes(weights: Path) -> None:
    codec = load_codec("encodec_24khz", weights=weights)
    samples = voice(1, sample_rate_hz=24_000).astype(np.float32)
    codec.model.set_target_bandwidth(6.0)
    with torch.inference_mode():
        ((codes, _),) = codec.model.encode(torch.from_numpy(samples)[None, None])
        decoded = codec.model.decode([(codes, None)])[0, 0].numpy()
    own = codec.encode(samples)[:8]
    assert (own == codes[0].numpy()).all()
    assert np.allclose(codec.decode(own), decoded, atol=1e-5)


def test_a_model_of_its_codes_continues_a_recording(weights: Path, tmp_path: Path) -> None:
    options = {"codec": "encodec_24khz", "codec_weights": str(weights), "num_codebooks": 4}
    tokenizer = SpeechTokenizer.from_options(options)
    tokenizer.save(tmp_path)
    again = SpeechTokenizer.load(tmp_path, tokenizer.to_options())
    assert again.fingerprint == tokenizer.fingerprint
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=48)
        checkpoint = Checkpoint(get("speech"), again, Transformer(config, again.vocab_sizes).eval())
    path = tmp_path / "talk.wav"
    soundfile.write(path, voice(0.8, sample_rate_hz=44_100), 44_100)
    (result,) = continue_file(path, checkpoint, ContinuationRequest(seconds=0.3), Sampling(), seed=0)
    (tmp_path / "result.wav").write_bytes(result.files[".wav"])
    assert soundfile.info(tmp_path / "result.wav").frames == 48_510
    (document,) = get("speech").read_documents(path, again, is_training=False)
    assert set(again.kinds_of(document)) == {"begin", "sound", "end"}
    assert again.count_units(document) == pytest.approx(0.8)


def test_without_its_weights_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="do not come with adaptgen"):
        load_codec("encodec_24khz")
    with pytest.raises(RecipeError, match=r"Set tokenizer\.codec_weights"):
        SpeechTokenizer.from_options({"codec": "encodec_24khz"})


def test_damaged_weights_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_codec("encodec_24khz", weights=tmp_path)


def test_without_the_package_the_command_to_install_it_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encodec", None)
    with pytest.raises(UsageError, match="pip install --no-deps encodec"):
        new_model()
    assert "torchaudio" not in sys.modules or hasattr(sys.modules["torchaudio"], "__version__")
