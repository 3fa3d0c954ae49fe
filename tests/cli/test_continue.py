"""The main job as a user runs it: commands, files, exit codes and sentences."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mido
import pytest
import soundfile

from adaptgen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from adaptgen.cli import main
from adaptgen.config import ModelConfig
from adaptgen.continuation import continue_file
from adaptgen.domains import get
from adaptgen.domains.base import ContinuationRequest
from adaptgen.model import Transformer

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights: fast, and as bad a musician as there can be."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    folder.mkdir()
    domain = get("music")
    tokenizer = domain.tokenizer_type.from_options({})
    config = ModelConfig(num_layers=2, num_heads=2, model_dim=32, attention_window=64)
    save_checkpoint(Checkpoint(domain, tokenizer, Transformer(config, tokenizer.vocab_sizes)), folder, card="# tiny\n")
    return folder


@pytest.fixture
def song(tmp_path: Path) -> Path:
    return Path(shutil.copy(EXAMPLES / "song.mid", tmp_path / "song.mid"))


def adaptgen(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "adaptgen", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


class Refused:
    """Runs a command that must fail: one sentence, no traceback, no new file. In this process, for speed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: object, cwd: Path) -> tuple[int, str]:
        before = sorted(cwd.rglob("*"))
        self.monkeypatch.chdir(cwd)
        self.monkeypatch.setattr(sys, "argv", ["adaptgen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
        assert exit_info.value.code in (1, 2)
        assert sorted(cwd.rglob("*")) == before
        return exit_info.value.code, self.capsys.readouterr().err


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    return Refused(monkeypatch, capsys)


def test_writes_midi_and_sound_and_says_so(tiny: Path, song: Path, tmp_path: Path) -> None:
    done = adaptgen("continue", "song.mid", "--bars", 4, "--checkpoint", tiny, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout)
    assert report["bars"] == 4
    assert report["files"] == ["song.continued.mid", "song.continued.wav"]
    assert {"notes", "seconds", "tokens_per_second", "seed", "checkpoint"} <= report.keys()
    added = mido.MidiFile(tmp_path / "song.continued.mid").length - mido.MidiFile(song).length
    assert added == pytest.approx(report["seconds"], abs=1.0)
    sound = soundfile.info(tmp_path / "song.continued.wav")
    assert (sound.samplerate, sound.channels) == (44_100, 2)
    assert sound.duration > mido.MidiFile(song).length + report["seconds"] - 1


def test_same_seed_same_bytes_other_seed_other_bytes(tiny: Path, song: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        options = ("--bars", 2, "--no-wav", "--seed", seed, "--checkpoint", tiny, "-o", f"{name}.mid")
        assert adaptgen("continue", song, *options, cwd=tmp_path).returncode == 0
    first, same, other = ((tmp_path / f"{name}.mid").read_bytes() for name in "abc")
    assert first == same
    assert first != other


def test_a_song_is_recalled_unless_told_otherwise(song: Path, tmp_path: Path) -> None:
    request, checkpoint = ContinuationRequest(bars=4, sound=False), load_checkpoint("music")
    assert checkpoint.recall is not None
    for options, is_recalling in (((), True), (("--no-recall",), False)):
        result = adaptgen("continue", song, "--bars", 4, "--seed", 1, "--no-wav", "--force", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        (wanted,) = continue_file(song, checkpoint, request, checkpoint.sampling, seed=1, is_recalling=is_recalling)
        assert (tmp_path / "song.continued.mid").read_bytes() == wanted.files[".mid"]
    (recalled,) = continue_file(song, checkpoint, request, checkpoint.sampling, seed=1)
    assert recalled.files != wanted.files


def test_a_song_is_learned_unless_told_otherwise(song: Path, tmp_path: Path) -> None:
    request, checkpoint = ContinuationRequest(bars=2, sound=False), load_checkpoint("music")
    summaries = []
    for options, is_adapting in ((("--json",), True), (("--json", "--no-adapt"), False)):
        result = adaptgen("continue", song, "--bars", 2, "--seed", 1, "--no-wav", "--force", *options, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        summaries += json.loads(result.stdout)
        (wanted,) = continue_file(song, checkpoint, request, checkpoint.sampling, seed=1, is_adapting=is_adapting)
        assert (tmp_path / "song.continued.mid").read_bytes() == wanted.files[".mid"]
    learned, plain = summaries
    assert "adapted" not in plain
    before, after = (float(learned["adapted"].split()[place]) for place in (0, 2))
    assert after < before


def test_seeds_and_variations_differ_in_how_notes_are_played(song: Path, tmp_path: Path) -> None:
    domain, request = get("music"), ContinuationRequest(bars=2, sound=False)
    prompt = domain.read_prompt(song, load_checkpoint("music").tokenizer, request, window=2048)
    drawn = prompt.tokens[:, 1:]
    results = [
        prompt.complete(drawn[:, -200:][:, (drawn[0, -200:] == prompt.tokenizer.bar).argmax() :], seed=seed)
        for seed in ((1, 0), (1, 1), (2, 0), (1, 0))
    ]
    first, variation, other, same = (result.files[".mid"] for result in results)
    assert first == same
    assert len({first, variation, other}) == 3


def test_variations_are_numbered_and_differ(tiny: Path, song: Path, tmp_path: Path) -> None:
    options = ("--bars", 2, "--variations", 3, "--no-wav", "--checkpoint", tiny)
    assert adaptgen("continue", song, *options, cwd=tmp_path).returncode == 0
    contents = {(tmp_path / f"song.continued.{number}.mid").read_bytes() for number in (1, 2, 3)}
    assert len(contents) == 3


def test_existing_results_are_kept_unless_forced(refused: Refused, tiny: Path, song: Path, tmp_path: Path) -> None:
    result = tmp_path / "song.continued.mid"
    result.write_bytes(b"mine")
    code, message = refused("continue", song, "--bars", 1, "--checkpoint", tiny, cwd=tmp_path)
    assert code == 1
    assert "song.continued.mid exists already" in message
    assert "--force" in message
    assert result.read_bytes() == b"mine"
    options = ("--bars", 1, "--no-wav", "--force", "--checkpoint", tiny)
    assert adaptgen("continue", song, *options, cwd=tmp_path).returncode == 0
    assert result.read_bytes()[:4] == b"MThd"


def test_the_input_is_never_overwritten_even_with_force(
    refused: Refused, tiny: Path, song: Path, tmp_path: Path
) -> None:
    before = song.read_bytes()
    code, message = refused("continue", song, "-o", song, "--force", "--checkpoint", tiny, cwd=tmp_path)
    assert code == 2
    assert "own result" in message
    assert song.read_bytes() == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--bars", 0), "--bars is 0"),
        (("--bars", -1), "--bars is -1"),
        (("--bars", 10**9), "--bars is 1000000000"),
        (("--bars", 4, "--seconds", 2), "--bars and --seconds"),
        (("--seconds", "nan"), "--seconds is nan"),
        (("--seconds", 0), "--seconds is 0"),
        (("--from-bar", 0), "--from-bar is 0"),
        (("--from-bar", 500), "has 12 bars"),
        (("--temperature", "nan"), "--temperature is nan"),
        (("--temperature", -1), "--temperature is -1"),
        (("--top-k", 0), "--top-k is 0"),
        (("--top-p", 1.5), "--top-p is 1.5"),
        (("--min-p", -0.1), "--min-p is -0.1"),
        (("--variations", 0), "--variations is 0"),
        (("--variations", 1000), "--variations is 1000"),
        (("--seed", -1), "--seed is -1"),
        (("--bars", "many"), "Invalid value for '--bars'"),
        (("-o", "."), "-o . is a folder"),
        (("-o", ".."), "-o .. is a folder"),
        (("--encoding", "utf-8"), "--encoding says nothing about music. Leave it out."),
        (("--words", 9), "--words says nothing about music. Give --bars or --seconds."),
    ],
)
def test_senseless_options_are_usage_errors(
    refused: Refused, tiny: Path, song: Path, tmp_path: Path, options: tuple[object, ...], expected: str
) -> None:
    code, message = refused("continue", song, *options, "--checkpoint", tiny, cwd=tmp_path)
    assert code == 2
    assert expected in message


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("gone.mid", None, "does not exist"),
        ("empty.mid", b"", "is empty"),
        ("text.mid", b"Dear diary, ...", "is not a MIDI file"),
        ("song.xyz", b"MThd", "suffix '.xyz'"),
    ],
)
def test_unusable_files_are_named_with_the_reason(
    refused: Refused, tiny: Path, tmp_path: Path, name: str, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, message = refused("continue", name, "--checkpoint", tiny, cwd=tmp_path)
    assert code == 1
    assert name in message
    assert expected in message


def test_a_folder_is_not_a_file(refused: Refused, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "songs.mid").mkdir()
    code, message = refused("continue", "songs.mid", "--checkpoint", tiny, cwd=tmp_path)
    assert code == 1
    assert "is a folder" in message


def test_results_may_be_named_by_any_of_their_files(tiny: Path, song: Path, tmp_path: Path) -> None:
    options = ("--bars", 1, "--checkpoint", tiny)
    assert adaptgen("continue", song, "-o", "mine.WAV", *options, cwd=tmp_path).returncode == 0
    assert (tmp_path / "mine.mid").read_bytes()[:4] == b"MThd"
    assert (tmp_path / "mine.wav").read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize(
    "arguments",
    [
        ("render", "song.mid", "-o", "song.mid"),
        ("render", "linked.mid", "-o", "song.wav"),
        ("codec", "encode", "song.wav", "-o", "song.wav"),
        ("codec", "decode", "codes.wav", "-o", "codes.wav"),
        ("eval", "--checkpoint", "text-twin-plain", "--data", "story.txt", "-o", "story.txt"),
        ("inspect", "found.txt", "--checkpoint", "text-twin-shortcut", "-o", "found"),
    ],
)
def test_no_verb_overwrites_what_it_reads(
    refused: Refused, song: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for name in ("song.wav", "codes.wav", "story.txt", "found.txt"):
        (tmp_path / name).write_bytes(song.read_bytes())
    (tmp_path / "linked.mid").symlink_to(tmp_path / "song.wav")
    (tmp_path / "found.html").symlink_to(tmp_path / "found.txt")
    code, message = refused(*arguments, "--force", cwd=tmp_path)
    assert code == 2
    assert (
        "the result is a .wav file; -o names song.mid. Give a name" in message
        or "would be overwritten by its own result" in message
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("continue", "song.mid"),
        ("render", "song.mid"),
        ("codec", "encode", "song.wav"),
        ("codec", "decode", "codes.safetensors"),
        ("eval", "--dataset", "music"),
        ("inspect", "song.mid"),
    ],
)
def test_a_slash_at_the_end_of_a_name_is_a_folder(refused: Refused, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    code, message = refused(*arguments, "-o", "nowhere/", cwd=tmp_path)
    assert code == 2
    assert "there is no folder nowhere/ to write into" in message
    (tmp_path / "here").mkdir()
    code, message = refused(*arguments, "-o", "here/", cwd=tmp_path)
    assert code == 2
    assert "-o here/ is a folder" in message


def test_a_missing_target_folder_is_noticed_before_the_work(
    refused: Refused, tiny: Path, song: Path, tmp_path: Path
) -> None:
    code, message = refused("continue", song, "-o", "nowhere/x.mid", "--checkpoint", tiny, cwd=tmp_path)
    assert code == 1
    assert "there is no folder nowhere" in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_forbidden_target_folder_is_noticed(refused: Refused, tiny: Path, song: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, message = refused("continue", song, "-o", locked / "x.mid", "--checkpoint", tiny, cwd=tmp_path)
    assert code == 1
    assert "no permission" in message


def damaged(checkpoint: Path, target: Path, file: str, change: object) -> Path:
    shutil.copytree(checkpoint, target)
    path = target / file
    path.write_bytes(change(path.read_bytes()))
    return target


@pytest.mark.parametrize(
    ("file", "change", "expected"),
    [
        ("model.safetensors", lambda data: data[: len(data) // 2], "model.safetensors cannot be read"),
        ("model.safetensors", lambda data: data[:8] + b"x" * 50 + data[58:], "model.safetensors cannot be read"),
        ("model.safetensors", lambda data: data.replace(b"norm.weight", b"form.weight", 1), "tensor"),
        ("config.json", lambda data: data.replace(b'"model_dim": 32', b'"model_dim": 64'), "has shape"),
        ("config.json", lambda data: data.replace(b'"domain": "music"', b'"domain": "smell"'), "no domain 'smell'"),
        ("config.json", lambda data: data.replace(b'"format_version": 1', b'"format_version": 9'), "version 9"),
        ("config.json", lambda data: data[:-20], "config.json is damaged"),
        ("tokenizer.json", lambda data: b"no json", "tokenizer.json cannot be read"),
    ],
)
def test_damaged_checkpoints_name_file_and_fault(
    refused: Refused, tiny: Path, song: Path, tmp_path: Path, file: str, change: object, expected: str
) -> None:
    bad = damaged(tiny, tmp_path / "bad", file, change)
    code, message = refused("continue", song, "--checkpoint", bad, cwd=tmp_path)
    assert code == 1
    assert expected in message


def test_an_unknown_checkpoint_lists_those_that_exist(refused: Refused, song: Path, tmp_path: Path) -> None:
    code, message = refused("continue", song, "--checkpoint", "mozart", cwd=tmp_path)
    assert code == 1
    assert "no checkpoint 'mozart'" in message
    assert "music" in message


def test_too_many_variations_are_refused_before_anything_is_read(refused: Refused, song: Path, tmp_path: Path) -> None:
    code, message = refused("continue", song, "--variations", 65, "--checkpoint", "mozart", cwd=tmp_path)
    assert code == 2
    assert "--variations is 65. Give a whole number from 1 to 64." in message


def test_a_missing_soundfont_leaves_nothing_behind(refused: Refused, tiny: Path, song: Path, tmp_path: Path) -> None:
    options = ("--bars", 1, "--soundfont", "none.sf2", "--checkpoint", tiny)
    code, message = refused("continue", song, *options, cwd=tmp_path)
    assert code == 1
    assert "none.sf2" in message


def test_render_and_tokenize(tiny: Path, song: Path, tmp_path: Path) -> None:
    assert adaptgen("render", song, "-o", "out.wav", cwd=tmp_path).returncode == 0
    assert soundfile.info(tmp_path / "out.wav").channels == 2
    shown = adaptgen("tokenize", song, "--checkpoint", tiny, cwd=tmp_path)
    assert shown.stdout.splitlines()[:3] == ["BOS_None", "Bar_None", "TimeSig_16/16"]
    lost = adaptgen("tokenize", song, "--checkpoint", tiny, "--roundtrip", "--json", cwd=tmp_path)
    assert json.loads(lost.stdout)["notes_lost"] == 0
