"""From a recipe's words about published data to folders with their splits, over a real server."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import pytest
import soundfile
from stand_ins import FileServer, archive_of, zip_of

from adaptgen import datasets
from adaptgen.config import DownloadConfig
from adaptgen.datasets import find_dataset
from adaptgen.errors import AdaptgenError, DownloadError
from adaptgen.recipe_files import load_recipe
from adaptgen.shipped import find_recipe

TEXT8 = b"the quick brown fox jumps over the lazy dog " * 25
SIZES = {"train_bytes": 900, "validation_bytes": 100, "test_bytes": 100}
WIKI = {
    "wikitext-103-raw/wiki.train.raw": " = Ä = \n \n Some text . \n".encode() * 50,
    "wikitext-103-raw/wiki.valid.raw": b" = B = \n",
    "wikitext-103-raw/wiki.test.raw": b" = C = \n",
}
TABLE = b"""canonical_composer,split,year,midi_filename,duration
"Berg, A.",train,2018,2018/one.midi,1.5
Liszt,train,2004,2004/one.midi,2
Liszt,validation,2004,2004/two.midi,2
Bach,test,2004,2004/three.midi,2
"""
MAESTRO = {
    "maestro-v3.0.0/LICENSE": b"CC BY-NC-SA",
    "maestro-v3.0.0/maestro-v3.0.0.csv": TABLE,
    **{f"maestro-v3.0.0/{name}.midi": name.encode() for name in ("2018/one", "2004/one", "2004/two", "2004/three")},
}

LIBRISPEECH = {
    part: {
        **{f"LibriSpeech/{part}/{name}.flac": name.encode() for name in names},
        f"LibriSpeech/{part}/{Path(names[0]).parent}/{Path(names[0]).parent.name}.trans.txt": b"19-198-0000 NORTHANGER",
        # Each archive has these, and nobody says that they are the same.
        "LibriSpeech/README.TXT": part.encode(),
        "LibriSpeech/SPEAKERS.TXT": b"; ID | SEX",
    }
    for part, names in {
        "train-clean-100": ["19/198/19-198-0000", "26/495/26-495-0000"],
        "dev-clean": ["84/121123/84-121123-0000"],
        "test-clean": ["61/70968/61-70968-0000"],
    }.items()
}


def published(name: str, server: FileServer, files: dict[str, bytes], **changes: object) -> DownloadConfig:
    """What the shipped recipe says, of a small archive of the same layout."""
    download = load_recipe(find_recipe(f"benchmarks/{name}")).data.download
    archive = server.offer(f"{name}.zip", zip_of(files))
    content = download.model_dump() | {"archives": [archive.model_dump()], "checksums": {}} | changes
    return DownloadConfig.model_validate(content)


def text8(server: FileServer, content: bytes = TEXT8, **changes: object) -> DownloadConfig:
    splits = {"cut": {"file": "**/text8", **SIZES}, "suffix": ".txt", "train_piece_bytes": 400}
    return published("text8", server, {"text8": content}, splits=splits, **changes)


def tape_of(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
    return content.getvalue()


def librispeech(server: FileServer, parts: dict[str, dict[str, bytes]]) -> DownloadConfig:
    """What the shipped recipe says, of three small archives of the same layout and names."""
    download = load_recipe(find_recipe("benchmarks/librispeech")).data.download
    archives = [
        server.offer(archive.name, tape_of(parts[archive.name.partition(".")[0]])) for archive in download.archives
    ]
    return DownloadConfig.model_validate(download.model_dump() | {"archives": [one.model_dump() for one in archives]})


def files_of(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    del found["about.json"]
    return found


def unpacked(files: dict[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def error_of(config: DownloadConfig, source: Path | None = None) -> str:
    with pytest.raises(AdaptgenError) as caught:
        find_dataset(config, name="data", source=source)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_is_cut_as_published(server: FileServer) -> None:
    found = files_of(find_dataset(text8(server), name="text8"))
    train = [found.pop(name) for name in ("train/text8.0000.txt", "train/text8.0001.txt", "train/text8.0002.txt")]
    assert found == {"validation/text8.txt": TEXT8[900:1000], "test/text8.txt": TEXT8[1000:]}
    assert b"".join(train) == TEXT8[:900]
    assert all(len(piece) <= 400 for piece in train)
    assert all(piece.endswith(b" ") for piece in train[:-1]), "a word is not cut"


def test_files_are_the_splits_that_they_are_named_after(server: FileServer) -> None:
    found = files_of(find_dataset(published("wikitext103", server, WIKI), name="wikitext103"))
    assert found == {
        f"{split}/{name}.txt": WIKI[name] for split, name in zip(("train", "validation", "test"), WIKI, strict=True)
    }


def test_a_table_says_the_split_of_each_file(server: FileServer) -> None:
    found = files_of(find_dataset(published("maestro", server, MAESTRO), name="maestro"))
    assert found == {
        "train/2018/one.midi": b"2018/one",
        "train/2004/one.midi": b"2004/one",
        "validation/2004/two.midi": b"2004/two",
        "test/2004/three.midi": b"2004/three",
    }


@pytest.mark.parametrize("how", ["network", "archives", "contents"])
def test_archives_that_hold_the_same_readme_are_several_splits(server: FileServer, tmp_path: Path, how: str) -> None:
    config, source = librispeech(server, LIBRISPEECH), None
    if how == "archives":
        server.stop()
        source = unpacked(server.files, tmp_path / "source")
    elif how == "contents":
        server.stop()
        source = tmp_path / "source"
        for files in LIBRISPEECH.values():
            unpacked(files, source)
    found = files_of(find_dataset(config, name="librispeech", source=source))
    assert found == {
        f"{folder}/{name}": content
        for folder, files in zip(("train", "validation", "test"), LIBRISPEECH.values(), strict=True)
        for name, content in files.items()
        if name.endswith(".flac")
    }


def test_one_wrong_archive_of_several_is_refused(server: FileServer, cache: Path) -> None:
    config = librispeech(server, LIBRISPEECH)
    server.files["dev-clean.tar.gz"] = server.files["dev-clean.tar.gz"][::-1]
    message = error_of(config)
    assert "dev-clean.tar.gz.partial has the SHA-256 " in message
    assert f"not {config.archives[1].sha256}, and was removed" in message
    assert [path.name for path in cache.rglob("*.tar.gz*")] == ["train-clean-100.tar.gz"]


def test_what_came_of_several_archives_before_a_cut_is_kept(server: FileServer, cache: Path) -> None:
    config = librispeech(server, LIBRISPEECH)
    server.cuts = [None, 40, 0]
    assert "dev-clean.tar.gz stopped after 40 of " in error_of(config)
    server.cuts, server.ranges = [None], []
    assert len(files_of(find_dataset(config, name="librispeech"))) == 4
    assert server.ranges == ["bytes=40-", None]
    server.stop()
    assert find_dataset(config, name="librispeech").is_dir()


def test_a_file_that_two_archives_hold_is_refused(server: FileServer) -> None:
    again = {"train-clean-100": LIBRISPEECH["dev-clean"], **dict(list(LIBRISPEECH.items())[1:])}
    config = librispeech(server, again)
    splits = {
        "files": {"train": "**/*.flac", "validation": "**/dev-clean/**/*.flac", "test": "**/test-clean/**/*.flac"}
    }
    config = DownloadConfig.model_validate(config.model_dump() | {"splits": splits})
    message = error_of(config)
    assert "hold LibriSpeech/dev-clean/84/121123/84-121123-0000.flac twice. It is not what the recipe" in message


@pytest.mark.parametrize("rule", ["files", "table"])
def test_a_file_in_two_splits_is_refused(server: FileServer, rule: str) -> None:
    globs = {"train": "**/*.raw", "validation": "**/wiki.valid.raw", "test": "**/wiki.test.raw"}
    if rule == "files":
        config = published("wikitext103", server, WIKI, splits={"files": globs})
        name = "wikitext-103-raw/wiki.valid.raw"
    else:
        row = b"Bach,validation,2004,./2004/one.midi,2\n"
        config = published("maestro", server, MAESTRO | {"maestro-v3.0.0/maestro-v3.0.0.csv": TABLE + row})
        name = "2004/one.midi"
    expected = f"{name} from {config.archives[0].name} is in two splits, train and validation. Mend data.download"
    assert expected in error_of(config)


def test_the_second_run_touches_no_network(server: FileServer, cache: Path) -> None:
    config = text8(server)
    messages: list[str] = []
    first = find_dataset(config, name="text8", on_message=messages.append)
    size = len(server.files["text8.zip"])
    assert messages == [f"Fetching {size} bytes from {server.url('text8.zip')}", f"Licence: {config.licence}"]
    server.stop()
    assert find_dataset(config, name="text8", on_message=messages.append) == first
    assert len(messages) == 2
    assert json.loads((first / "about.json").read_text())["licence"] == config.licence
    assert sorted(path.name for path in cache.iterdir()) == ["datasets", "downloads"]
    assert [path.name for path in (cache / "datasets").iterdir()] == [first.name], "nothing unfinished is left"


def test_another_rule_needs_the_cached_archive_only(server: FileServer) -> None:
    config = text8(server)
    first = find_dataset(config, name="text8")
    server.stop()
    other = config.model_copy(update={"splits": config.splits.model_copy(update={"train_piece_bytes": None})})
    second = find_dataset(other, name="text8")
    assert second != first
    assert (second / "train" / "text8.txt").read_bytes() == TEXT8[:900]


def test_without_a_published_checksum_the_one_found_is_said(server: FileServer) -> None:
    config, messages = text8(server), []
    (archive,) = config.archives
    config = config.model_copy(update={"archives": (archive.model_copy(update={"sha256": None}),)})
    find_dataset(config, name="text8", on_message=messages.append)
    assert (
        messages[2]
        == f"text8.zip has the SHA-256 {archive.sha256}; the recipe names none, so its size alone was checked"
    )


def test_a_copy_of_the_archive_is_as_good_as_the_network(server: FileServer, tmp_path: Path) -> None:
    config = text8(server)
    server.stop()
    source = unpacked({"text8.zip": server.files["text8.zip"]}, tmp_path / "source")
    from_folder = find_dataset(config, name="text8", source=source)
    assert find_dataset(config, name="text8", source=source / "text8.zip") == from_folder
    assert find_dataset(config, name="text8") == from_folder
    assert (source / "text8.zip").is_file()


@pytest.mark.parametrize("below", ["", "maestro-v3.0.0"])
def test_a_copy_of_the_contents_is_split_alike(server: FileServer, tmp_path: Path, below: str) -> None:
    config = published("maestro", server, MAESTRO)
    by_network = files_of(find_dataset(config, name="maestro"))
    source = unpacked(MAESTRO, tmp_path / "source")
    folder = find_dataset(config, name="maestro", source=source / below)
    assert files_of(folder) == by_network
    assert set(unpacked({}, source).rglob("*.midi")), "a copy stays where it is"
    (source / "maestro-v3.0.0/2004/one.midi").write_bytes(b"changed")
    changed = find_dataset(config, name="maestro", source=source / below)
    assert files_of(changed)["train/2004/one.midi"] == b"changed"


def test_a_copy_of_the_contents_is_brought_once(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, source = published("maestro", server, MAESTRO), unpacked(MAESTRO, tmp_path / "source")
    first = find_dataset(config, name="maestro", source=source)
    monkeypatch.setattr(datasets, "write_parts", lambda *args, **options: pytest.fail("it is there already"))
    assert find_dataset(config, name="maestro", source=source) == first


def test_a_copy_is_checked_and_left_alone(server: FileServer, tmp_path: Path) -> None:
    right = archive_of(server.url("text8"), TEXT8).sha256
    config = text8(server, checksums={"text8": right})
    source = unpacked({"text8": TEXT8}, tmp_path / "source")
    assert (find_dataset(config, name="text8", source=source) / "test" / "text8.txt").is_file()
    (source / "text8").write_bytes(TEXT8[::-1])
    assert f"not {right}. Get it again." in error_of(config, source)
    (source / "text8.zip").write_bytes(server.files["text8.zip"][::-1])
    assert f"{source / 'text8.zip'} has the SHA-256 " in error_of(config, source)
    (source / "text8.zip").write_bytes(b"short")
    assert "has 5 bytes, not " in error_of(config, source)
    assert sorted(path.name for path in source.iterdir()) == ["text8", "text8.zip"]


def test_a_copy_that_is_not_there_is_said(server: FileServer, tmp_path: Path) -> None:
    config = text8(server)
    assert error_of(config, tmp_path / "nowhere").startswith(f"there is no folder {tmp_path / 'nowhere'}. Give one")
    (tmp_path / "empty").mkdir()
    message = error_of(config, tmp_path / "empty")
    assert message == f"{tmp_path / 'empty'} holds no file text8. Put text8.zip there, or what comes out of it."
    for name in ("a", "b"):
        unpacked({"text8": TEXT8}, tmp_path / "two" / name)
    assert "holds both a/text8 and b/text8" in error_of(config, tmp_path / "two")


@pytest.mark.parametrize(
    ("name", "files", "expected"),
    [
        ("wikitext103", {"readme": b"x"}, "wikitext103.zip holds no file wiki.train.raw"),
        ("wikitext103", dict(list(WIKI.items())[:2]), "wikitext103.zip holds no file wiki.test.raw"),
        ("text8", {"text8": TEXT8}, "text8 from text8.zip has 1,100 bytes, and the splits take 100,000,000"),
        ("maestro", {"maestro-v3.0.0.csv": TABLE}, "row 2 of maestro-v3.0.0.csv from maestro.zip says split = 'train'"),
        ("maestro", {"maestro-v3.0.0.csv": b"a,b\n1,2\n"}, "says split = None and midi_filename = None"),
        ("maestro", {"maestro-v3.0.0.csv": b"\xff\xfe"}, "is no CSV file"),
        ("maestro", {"maestro-v3.0.0.csv": b"split,midi_filename\n"}, "names no file of the train split"),
        (
            "maestro",
            {"m/maestro-v3.0.0.csv": b"split,midi_filename\ntrain,../out.midi\n", "out.midi": b"x"},
            "midi_filename = '../out.midi', which is not a split and a file that is there",
        ),
        ("maestro", MAESTRO | {"maestro-v3.0.0/x/../../../y": b"x"}, "leads out of its folder"),
    ],
)
def test_an_archive_of_other_contents_is_refused(
    server: FileServer, cache: Path, name: str, files: dict[str, bytes], expected: str
) -> None:
    assert expected in error_of(published(name, server, files))
    assert list((cache / "datasets").iterdir()) == [], "nothing unfinished is left"


def test_a_wrong_archive_is_not_unpacked(server: FileServer, cache: Path) -> None:
    config = text8(server)
    server.files["text8.zip"] = server.files["text8.zip"][::-1]
    with pytest.raises(DownloadError, match="has the SHA-256"):
        find_dataset(config, name="text8")
    assert not (cache / "datasets").exists()
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_one_sentence(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ADAPTGEN_CACHE", str(tmp_path / "file"))
    config = text8(server)
    assert "cannot be written: Not a directory. Free some space" in error_of(config)
    source = unpacked({"text8": TEXT8}, tmp_path / "source")
    assert "Not a directory. Free some space" in error_of(config, source)


# ---- from the command line ----

Adaptgen = Callable[..., tuple[int, str, str]]
TINY = [
    f"--set=model.{key}={value}"
    for key, value in {"num_layers": 2, "num_heads": 2, "model_dim": 32, "attention_window": 32}.items()
] + [
    f"--set=training.{key}={value}"
    for key, value in {
        "max_steps": 2,
        "batch_size": 2,
        "seq_len": 32,
        "warmup_steps": 1,
        "validate_every": 2,
        "validation_batches": 1,
        "num_threads": 1,
    }.items()
]


@pytest.fixture
def text8_arguments(server: FileServer) -> list[str]:
    """The shipped recipe, of a small archive."""
    archive = server.offer("text8.zip", zip_of({"text8": TEXT8}))
    sizes = [f"--set=data.download.splits.cut.{key}={value}" for key, value in SIZES.items()]
    place = "data.download.archives.0"
    about = [f"--set={place}.{key}={value}" for key, value in archive.model_dump().items()]
    return ["recipes/benchmarks/text8.yaml", *about, *sizes, "--set=data.download.checksums={}", *TINY]


def test_trains_on_what_it_fetches_and_goes_on_without_a_network(
    adaptgen_here: Adaptgen, server: FileServer, tmp_path: Path, text8_arguments: list[str]
) -> None:
    code, out, err = adaptgen_here("train", *text8_arguments)
    assert code == 0, err
    assert "Licence: Wikipedia's text of March 2006" in out
    assert "with 901 tokens to train on and 101 for validation" in out
    assert "Done: 2 steps" in out
    server.stop()
    code, _, err = adaptgen_here("train", *text8_arguments)
    assert (code, "runs/text8 is not empty" in err) == (1, True)
    code, out, err = adaptgen_here("train", *text8_arguments, "-o", "again")
    assert code == 0, err
    assert "Licence" not in out
    code, out, err = adaptgen_here("train", "runs/text8/recipe.yaml", "-o", "runs/text8", "--resume", "--steps", 3)
    assert code == 0, err
    assert "Done: 3 steps" in out
    code, out, err = adaptgen_here("eval", "--dataset", "runs/text8/recipe.yaml", "--checkpoint", "again/best")
    assert code == 0, err
    assert "one document, 100 bytes" in out


def test_a_run_with_data_of_ones_own_goes_on_with_them(
    adaptgen_here: Adaptgen, server: FileServer, tmp_path: Path, text8_arguments: list[str]
) -> None:
    (tmp_path / "mine.txt").write_text("my own words " * 200)
    code, _, err = adaptgen_here("train", *text8_arguments, "--data", "mine.txt")
    assert code == 0, err
    assert server.ranges == []
    code, out, err = adaptgen_here("train", *text8_arguments, "--resume", "--steps", 3)
    assert code == 0, err
    assert "Going on after step 2" in out
    assert server.ranges == []


@pytest.mark.parametrize("as_archive", [True, False])
def test_trains_and_measures_on_a_copy(
    adaptgen_here: Adaptgen, server: FileServer, tmp_path: Path, text8_arguments: list[str], as_archive: bool
) -> None:
    server.stop()
    files = {"text8.zip": server.files["text8.zip"]} if as_archive else {"text8": TEXT8}
    unpacked(files, tmp_path / "copy")
    code, out, err = adaptgen_here("train", *text8_arguments, "--source", "copy")
    assert code == 0, err
    assert "Licence" not in out
    arguments = ("eval", "--dataset", "runs/text8/recipe.yaml", "--checkpoint", "runs/text8/best", "--json")
    code, out, err = adaptgen_here(*arguments, "--source", "copy")
    assert code == 0, err
    found = json.loads(out)
    assert (found["documents"], found["units"], found["unit"]) == (1, 100, "byte")


def test_measures_the_test_split_that_a_benchmark_is_named_after(
    adaptgen_here: Adaptgen, tmp_path: Path, text8_arguments: list[str], server: FileServer
) -> None:
    code, _, err = adaptgen_here("train", *text8_arguments)
    assert code == 0, err
    unpacked(WIKI, tmp_path / "wiki")
    arguments = ("--dataset", "wikitext103", "--source", "wiki", "--checkpoint", "runs/text8/best", "--json")
    code, out, err = adaptgen_here("eval", *arguments)
    assert code == 0, err
    assert json.loads(out)["units"] == len(" c "), "what text8's alphabet keeps of the test file"


def test_songs_are_trained_on_and_measured_by_the_table(
    adaptgen_here: Adaptgen, server: FileServer, tmp_path: Path
) -> None:
    songs = sorted((Path(__file__).parents[2] / "examples" / "corpus").rglob("*.mid"))[:4]
    names = [name for name in MAESTRO if name.endswith(".midi")]
    source = unpacked(
        MAESTRO | {name: path.read_bytes() for name, path in zip(names, songs, strict=True)}, tmp_path / "copy"
    )
    code, out, err = adaptgen_here("train", "benchmarks/maestro", "--source", source, *TINY)
    assert code == 0, err
    assert "4 files from" in out
    arguments = ("eval", "--dataset", "maestro", "--source", source, "--checkpoint", "runs/maestro/best", "--json")
    code, out, err = adaptgen_here(*arguments)
    assert code == 0, err
    assert json.loads(out)["documents"] == 1


def test_speech_is_fetched_trained_on_and_measured(adaptgen_here: Adaptgen, server: FileServer, tmp_path: Path) -> None:
    examples = Path(__file__).parents[2] / "examples" / "speech"
    speech = {
        part: {
            name: flac_of(path) if name.endswith(".flac") else content
            for (name, content), path in zip(files.items(), cycle(sorted((examples / split).glob("*.ogg"))))
        }
        for (part, files), split in zip(LIBRISPEECH.items(), ("train", "validation", "test"), strict=True)
    }
    archives = librispeech(server, speech).archives
    about = [
        f"--set=data.download.archives.{index}.{key}={value}"
        for index, archive in enumerate(archives)
        for key, value in archive.model_dump().items()
    ]
    # EnCodec's weights are elsewhere; its own tests stand for it.
    recipe = ["benchmarks/librispeech", "--set=tokenizer.codec=source_filter", *about, *TINY]
    code, out, err = adaptgen_here("train", *recipe)
    assert code == 0, err
    assert "Licence: CC BY 4.0; Panayotov et al." in out
    assert "librispeech: " in out
    assert "4 files from" in out
    server.stop()
    arguments = ("eval", "--dataset", "runs/librispeech/recipe.yaml", "--checkpoint", "runs/librispeech/best", "--json")
    code, out, err = adaptgen_here(*arguments)
    assert code == 0, err
    assert (json.loads(out)["documents"], json.loads(out)["unit"]) == (1, "second")
    source = tmp_path / "copy"
    for files in speech.values():
        unpacked(files, source)
    arguments = ("eval", "--dataset", "librispeech", "--source", source, "--checkpoint", "runs/librispeech/best")
    code, again, err = adaptgen_here(*arguments, "--json")
    assert code == 0, err
    assert json.loads(again)["models"] == json.loads(out)["models"]


def flac_of(path: Path) -> bytes:
    samples, rate = soundfile.read(path, dtype="int16")
    content = io.BytesIO()
    soundfile.write(content, samples, rate, format="FLAC")
    return content.getvalue()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (
            ("train", "music", "--source", "."),
            2,
            "the recipe music names no published data. Give your own",
        ),
        (("train", "benchmarks/text8", "--source", ".", "--data", "."), 2, "--data and --source contradict each other"),
        (("train", "benchmarks/text8", "--source", "nowhere"), 1, "there is no folder nowhere"),
        (("train", "benchmarks/text8", "--source", "."), 1, ". holds no file text8. Put text8.zip there"),
        (("eval", "--dataset", "music", "--source", "."), 2, "--source is a copy of published data"),
        (("eval", "--checkpoint", "music", "--source", "."), 2, "--source is a copy of published data"),
        (("eval", "--dataset", "maestro", "--source", "nowhere"), 1, "there is no folder nowhere"),
        (
            ("eval", "--dataset", "maestr"),
            2,
            "Give one of music, speech, text, librispeech, maestro, text8, wikitext103, or a recipe",
        ),
        (("train", "benchmarks/text8", "--set=data.download.archives.0.size=9"), 2, "the nearest is 'size_bytes'"),
        (
            ("train", "benchmarks/text8", "--set=data.download.archives.0.url=file:///etc/passwd"),
            2,
            "archives.0.url is",
        ),
        (("train", "benchmarks/text8", "--set=data.download.archives.0.sha256=abc"), 2, "archives.0.sha256 is 'abc'"),
        (("train", "benchmarks/text8", "--set=data.download.splits.cut=null"), 2, "give one of cut, files and table"),
        (("train", "benchmarks/text8", "--set=data.download.splits.cut.file=x**8"), 2, "is 'x**8': in a glob, ** stan"),
        (("train", "benchmarks/text8", "--set=data.download=null"), 2, "data: give a folder, or a download"),
    ],
)
def test_says_what_makes_no_sense(
    adaptgen_here: Adaptgen, arguments: tuple[str, ...], code: int, expected: str
) -> None:
    found, _, err = adaptgen_here(*arguments)
    (line,) = err.strip().splitlines()
    assert (found, expected in line) == (code, True), line


def test_a_network_that_is_not_there_is_one_sentence(
    adaptgen_here: Adaptgen, server: FileServer, text8_arguments: list[str]
) -> None:
    server.stop()
    code, _, err = adaptgen_here("train", *text8_arguments)
    (line,) = err.strip().splitlines()
    assert code == 1
    assert "cannot be reached for text8.zip: Connection refused" in line
