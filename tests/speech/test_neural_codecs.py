"""EnCodec, Mimi and DAC behind the codecs' common face, with random weights of their architectures."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from networks import PUBLISHED, write_network
from safetensors.torch import load_file, save_file
from voices import voice

from adaptgen.checkpoint import Checkpoint
from adaptgen.config import DataConfig, ModelConfig, SourceConfig
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.domains.speech.codec import Codec
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.domains.speech.tokenizer import SpeechTokenizer
from adaptgen.errors import AdaptgenError, CheckpointError, UsageError
from adaptgen.model import Transformer
from adaptgen.sampling import Sampling
from adaptgen.shards import prepare

Folders = Callable[[str], Path]
Codecs = Callable[[str], Codec]
NAMES = list(PUBLISHED)
FRAMES_PER_SECOND = {"encodec_24khz": 75, "mimi": 12.5, "dac_16khz": 50, "dac_24khz": 75, "dac_44khz": 44_100 / 512}
STREAMS = {"encodec_24khz": 32, "mimi": 32, "dac_16khz": 12, "dac_24khz": 32, "dac_44khz": 9}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Folders of the hub by the codec's name, made when they are first asked for."""
    root = tmp_path_factory.mktemp("networks")
    return lambda name: root / name if (root / name).is_dir() else write_network(name, root / name)


@pytest.fixture(scope="module")
def codecs(folders: Folders) -> Codecs:
    """Codecs by name, read when they are first asked for."""
    return cache(lambda name: load_codec(name, weights=folders(name)))


def spoken(codec: Codec, seconds: float | None = None) -> np.ndarray:
    """Eight frames of it if not said otherwise."""
    seconds = seconds or 8 / codec.frames_per_second
    return voice(seconds, sample_rate_hz=codec.sample_rate_hz).astype(np.float32)


def error_of(name: str, folder: Path) -> str:
    with pytest.raises(AdaptgenError) as caught:
        load_codec(name, weights=folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def skip_unless(codec: Codec, package: str) -> None:
    if not type(codec.model).__module__.startswith(package):
        pytest.skip(f"{package} is not installed")


def without_encodec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encodec", None)


@pytest.mark.parametrize("name", NAMES)
def test_any_length_goes_through_at_every_rate(codecs: Codecs, name: str) -> None:
    codec = codecs(name)
    assert codec.frames_per_second == FRAMES_PER_SECOND[name]
    assert len(codec.codebook_sizes) == STREAMS[name]
    samples = spoken(codec)
    for length in (1, codec.frame_samples - 1, codec.frame_samples, codec.frame_samples + 1, len(samples)):
        codes = codec.encode(samples[:length])
        assert codes.dtype == np.int64
        assert codes.shape == (STREAMS[name], -(-length // codec.frame_samples))
        assert codes.min() >= 0
        assert (codes.max(axis=1) < codec.codebook_sizes).all()
    assert len(np.unique(codes, axis=1).T) > 1, "different sound, different codes"
    assert (codec.encode(samples) == codes).all()
    sounds = [codec.decode(codes[:count]) for count in (1, 2, STREAMS[name])]
    for sound in sounds:
        assert sound.dtype == np.float32
        assert sound.shape == (codes.shape[1] * codec.frame_samples,)
        assert np.isfinite(sound).all()
    assert (codec.decode(codes[:1]) == sounds[0]).all()
    assert (sounds[1] != sounds[0]).any()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_stored_with_a_checkpoint_and_sent_to_other_processes(codecs: Codecs, name: str, tmp_path: Path) -> None:
    codec = codecs(name)
    # A checkpoint's own files have the names that the hub's have.
    for own in ("config.json", "model.safetensors"):
        (tmp_path / own).write_text("the language model's")
    codec.save(tmp_path)
    num_threads = torch.get_num_threads()
    others = [load_codec(name, weights=tmp_path), pickle.loads(pickle.dumps(codec))]
    torch.set_num_threads(num_threads)
    codes = codec.encode(spoken(codec))
    for other in others:
        assert other.fingerprint == codec.fingerprint
        assert (other.encode(spoken(codec)) == codes).all()


def test_both_packages_give_encodec_the_same_codes(
    folders: Folders, codecs: Codecs, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_encodec = codecs("encodec_24khz")
    skip_unless(by_encodec, "encodec")
    without_encodec(monkeypatch)
    by_transformers = load_codec("encodec_24khz", weights=folders("encodec_24khz"))
    assert type(by_transformers.model).__module__.startswith("transformers")
    assert len(by_encodec.model.state_dict()) == len(by_transformers.model.state_dict()) == 252
    assert by_encodec.fingerprint == by_transformers.fingerprint
    for length in (1, 320, 321, 2_400):
        codes = by_encodec.encode(spoken(by_encodec)[:length])
        assert (by_transformers.encode(spoken(by_encodec)[:length]) == codes).all()
        for count in (1, 2, 32):
            sound, other = by_encodec.decode(codes[:count]), by_transformers.decode(codes[:count])
            assert np.allclose(sound, other, atol=1e-5 * np.abs(sound).max())


@pytest.mark.slow
@pytest.mark.parametrize("package", ["encodec", "transformers"])
def test_encodec_is_what_its_package_computes_at_each_rate(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    if package == "transformers":
        without_encodec(monkeypatch)
    options = {"codec": "encodec_24khz", "codec_weights": str(folders("encodec_24khz"))}
    codec = SpeechTokenizer.from_options(options).codec
    skip_unless(codec, package)
    model, samples = codec.model, torch.from_numpy(spoken(codec))[None, None]
    for kbps, count in ((1.5, 2), (3.0, 4), (6.0, 8), (12.0, 16)):
        tokenizer = SpeechTokenizer(codec, num_codebooks=count)
        with torch.inference_mode():
            if package == "encodec":
                model.set_target_bandwidth(kbps)
                ((codes, _),) = model.encode(samples)
                decoded = model.decode([(codes, None)])[0, 0].numpy()
            else:
                codes = model.encode(samples, bandwidth=kbps).audio_codes[0]
                decoded = model.decode(codes[None], [None]).audio_values[0, 0].numpy()
        own = tokenizer.encode(spoken(codec))
        assert (own == codes[0].numpy()).all()
        assert np.allclose(codec.decode(own)[: len(decoded)], decoded, atol=1e-5 * np.abs(decoded).max())
        assert sum(np.log2(size - 2) for size in tokenizer.vocab_sizes) * codec.frames_per_second == 1000 * kbps


@pytest.mark.parametrize("name", ["mimi", "dac_16khz", "dac_44khz"])
def test_it_is_what_transformers_computes(codecs: Codecs, name: str) -> None:
    codec = codecs(name)
    samples = spoken(codec, 1.0)[: 10 * codec.frame_samples]
    with torch.inference_mode():
        found = codec.model(torch.from_numpy(samples)[None, None])
    codes = codec.encode(samples)
    assert (codes == found.audio_codes[0].numpy()).all()
    sound, expected = codec.decode(codes), found.audio_values.flatten().numpy()
    assert len(sound) - 8 <= len(expected) <= len(sound)
    assert np.allclose(sound[: len(expected)], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("name", "least_equal"),
    [pytest.param("encodec_24khz", 0.99, marks=pytest.mark.slow), ("mimi", 0.99), ("dac_16khz", 1.0)],
)
def test_long_sound_goes_through_in_pieces(
    codecs: Codecs, monkeypatch: pytest.MonkeyPatch, name: str, least_equal: float
) -> None:
    codec = codecs(name)
    samples = spoken(codec, 3.0)
    codes = codec.encode(samples)
    sound = codec.decode(codes)
    monkeypatch.setattr(type(codec), "piece_frames", 20)
    assert (codec.encode(samples) == codes).mean() >= least_equal
    assert np.abs(codec.decode(codes) - sound).max() < 1e-3 * np.abs(sound).max()


@pytest.mark.parametrize("package", ["encodec", "transformers"])
def test_files_of_an_older_torch_are_read(
    folders: Folders, codecs: Codecs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str
) -> None:
    if package == "transformers":
        without_encodec(monkeypatch)
    shutil.copy(folders("encodec_24khz") / "config.json", tmp_path)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    state = load_file(folders("encodec_24khz") / "model.safetensors")
    for now, before in old.items():
        state = {name.replace(now, before): tensor for name, tensor in state.items()}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    older = load_codec("encodec_24khz", weights=tmp_path)
    skip_unless(older, package)
    assert older.fingerprint == codecs("encodec_24khz").fingerprint


def test_a_model_of_its_codes_continues_a_recording(folders: Folders, tmp_path: Path) -> None:
    options = {"codec": "encodec_24khz", "codec_weights": str(folders("encodec_24khz")), "num_codebooks": 4}
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


def test_from_the_command_line(
    folders: Folders, tmp_path: Path, adaptgen_here: Callable[..., tuple[int, str, str]]
) -> None:
    soundfile.write(tmp_path / "talk.wav", voice(0.7), 16_000)
    for name in ("dac_16khz", "mimi"):
        code, _, err = adaptgen_here(
            "codec", "encode", "talk.wav", "--codec", name, "--weights", folders(name), "--force"
        )
        assert code == 0, err
        code, _, err = adaptgen_here(
            "codec", "decode", "talk.safetensors", "--codebooks", 3, "--weights", folders(name), "--force"
        )
        assert code == 0, err
        info = soundfile.info(tmp_path / "talk.decoded.wav")
        assert info.duration == pytest.approx(0.7, abs=1e-4)
    code, _, err = adaptgen_here("codec", "decode", "talk.safetensors", "--weights", folders("dac_16khz"), "--force")
    assert code == 1
    assert "its model_type is 'dac', not 'mimi'. Get it with `hf download kyutai/mimi --local-dir FOLDER`" in err


# ---- what can be wrong with a folder ----


def test_a_folder_that_holds_no_network_is_said(folders: Folders, tmp_path: Path) -> None:
    remedy = "Get it with `hf download facebook/encodec_24khz --local-dir FOLDER`."
    assert error_of("encodec_24khz", tmp_path / "x") == f"there is no folder {tmp_path / 'x'}. {remedy}"
    assert error_of("encodec_24khz", tmp_path) == f"{tmp_path} has no config.json. {remedy}"
    shutil.copy(folders("encodec_24khz") / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04K\x01.")
    reason = "pytorch_model.bin is not read, since a pickle may run any code"
    assert error_of("encodec_24khz", tmp_path) == f"{tmp_path} has no model.safetensors; {reason}. {remedy}"
    (tmp_path / "config.json").write_text("no JSON")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert f"{tmp_path / 'config.json'} cannot be used: Expecting value" in error_of("encodec_24khz", tmp_path)


@pytest.mark.parametrize(
    ("name", "other", "changes", "expected"),
    [
        ("mimi", "encodec_24khz", {}, "is not kyutai/mimi: its model_type is 'encodec', not 'mimi'"),
        ("dac_24khz", "dac_16khz", {}, "is not descript/dac_24khz: its sampling_rate is 16000, not 24000"),
        ("encodec_24khz", "encodec_24khz", {"audio_channels": 2}, "its audio_channels is 2, not 1"),
        ("encodec_24khz", "encodec_24khz", {"sampling_rate": 48_000}, "its sampling_rate is 48000, not 24000"),
        ("encodec_24khz", "encodec_24khz", {"normalize": True}, "its normalize is True, not False"),
    ],
)
def test_another_network_is_refused(
    folders: Folders, tmp_path: Path, name: str, other: str, changes: dict[str, object], expected: str
) -> None:
    shutil.copytree(folders(other), tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text()) | changes
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert expected in error_of(name, tmp_path)


@pytest.mark.parametrize("name", ["encodec_24khz", "dac_16khz"])
@pytest.mark.parametrize("damage", ["cut", "lacking", "unknown", "shape"])
def test_damaged_weights_are_refused(folders: Folders, tmp_path: Path, name: str, damage: str) -> None:
    shutil.copytree(folders(name), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "model.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1000])
        assert "cannot be used: " in error_of(name, tmp_path)
        return
    state = load_file(path)
    bias = next(key for key in sorted(state) if key.endswith("bias"))
    if damage == "lacking":
        del state[bias]
    elif damage == "unknown":
        state["surplus.bias"] = torch.zeros(1)
    else:
        state[bias] = torch.zeros(7)
    save_file(state, path, metadata={"format": "pt"})
    expected = {
        "lacking": f"lacks tensor '{bias}'",
        "unknown": "has an unknown tensor 'surplus.bias'",
        "shape": f"has tensor '{bias}' of another shape",
    }
    assert expected[damage] in error_of(name, tmp_path)


# ---- what can be wrong with an installation ----


@pytest.fixture
def no_packages(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("encodec_24khz", "mimi"):
        folders(name)
    for package in ("encodec", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)


def test_without_the_packages_the_command_to_install_one_is_shown(folders: Folders, no_packages: None) -> None:
    message = error_of("encodec_24khz", folders("encodec_24khz"))
    assert "the codec encodec_24khz needs encodec or transformers: the package encodec cannot be imported" in message
    assert message.endswith(". pip install --no-deps encodec==0.1.1 einops.")
    assert error_of("mimi", folders("mimi")).endswith('. pip install "transformers>=5,<6".')
    with pytest.raises(UsageError, match="pip install --no-deps encodec"):
        SpeechTokenizer.from_options({"codec": "encodec_24khz", "codec_weights": str(folders("encodec_24khz"))})


def test_a_torchaudio_that_breaks_transformers_is_named(
    folders: Folders, no_packages: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "torchaudio", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert "pip uninstall torchaudio" in error_of("mimi", folders("mimi"))


def test_a_torchaudio_that_cannot_be_imported_does_not_hinder_encodec(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = folders("encodec_24khz")
    (tmp_path / "torchaudio.py").write_text("raise OSError('libcudart.so.13: cannot open shared object file')")
    for name in [*sys.modules]:
        if name == "torchaudio" or name.split(".")[0] == "encodec":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    # Only the package is left to read it.
    monkeypatch.setitem(sys.modules, "transformers", None)
    try:
        codec = load_codec("encodec_24khz", weights=weights)
    except UsageError as error:
        pytest.skip(str(error))
    assert codec.encode(spoken(codec)).shape == (32, 8)
    assert "torchaudio" not in sys.modules, "what stood for it is gone"


# ---- what takes minutes ----


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_minutes_go_through(codecs: Codecs, name: str) -> None:
    codec = codecs(name)
    samples = np.tile(spoken(codec, 10.0), 60)
    codes = codec.encode(samples)
    assert codes.shape == (STREAMS[name], -(-len(samples) // codec.frame_samples))
    sound = codec.decode(codes[:2])
    assert sound.shape == (codes.shape[1] * codec.frame_samples,)
    assert np.isfinite(sound).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mimi", "dac_16khz", "dac_24khz", "dac_44khz"])
def test_the_published_size_goes_through(tmp_path: Path, name: str) -> None:
    codec = load_codec(name, weights=write_network(name, tmp_path, is_narrow=False))
    codes = codec.encode(spoken(codec, 1.0))
    assert codes.shape == (STREAMS[name], -(-codec.sample_rate_hz // codec.frame_samples))
    assert set(codec.codebook_sizes) == {2048 if name == "mimi" else 1024}
    assert np.isfinite(codec.decode(codes)).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encodec_24khz", "dac_16khz"])
def test_several_processes_encode_a_folder(folders: Folders, tmp_path: Path, name: str) -> None:
    for index in range(24):
        soundfile.write(tmp_path / f"{index}.wav", voice(0.5, seed=index), 16_000)
    options = {"codec": name, "codec_weights": str(folders(name)), "num_codebooks": 1}
    config = DataConfig(folder=str(tmp_path))
    shards, skipped = prepare(
        get("speech"), SpeechTokenizer.from_options(options), SourceConfig(), config, tmp_path, num_workers=2
    )
    assert skipped == []
    counts = {split: shard.num_documents for split, shard in shards.items()}
    # Training hears each recording four times.
    assert counts.pop("train") // 4 + sum(counts.values()) == 24


def test_a_missing_folder_when_it_is_stored_is_said(tmp_path: Path) -> None:
    codec = load_codec("dac_16khz", weights=write_network("dac_16khz", tmp_path / "network"))
    shutil.rmtree(tmp_path / "network")
    with pytest.raises(CheckpointError, match=r"config\.json is gone, and the codec with it"):
        codec.save(tmp_path)
