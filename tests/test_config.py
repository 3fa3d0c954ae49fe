"""Recipes: what is valid, and what is said about what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from adaptgen import domains
from adaptgen.config import Recipe, SplitsConfig
from adaptgen.errors import InputFileError, RecipeError
from adaptgen.recipe_files import load_recipe
from adaptgen.shipped import find_recipe, find_shipped, recipe_names, shipped_folder
from adaptgen.training.corpus import find_data_folder

RECIPES = sorted((Path(__file__).parents[1] / "recipes").rglob("*.yaml"))
NEEDS_THE_HUB = {"librispeech"}
"""Their codec's weights are fetched."""


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(path, overrides=overrides)
    return str(caught.value)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path: Path) -> None:
    recipe = load_recipe(path)
    if path.stem not in NEEDS_THE_HUB:
        tokenizer = domains.get(recipe.domain).tokenizer_type.from_options(recipe.tokenizer)
        assert tokenizer.to_options().items() >= recipe.tokenizer.items()
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert lines[0].endswith(".")
    assert any(line.startswith("#   adaptgen train recipes/") for line in lines), "no command in its header"


def test_there_are_recipes() -> None:
    assert {path.stem for path in RECIPES} >= {"music", "music-finetune"}


@pytest.mark.parametrize("name", ["music", "recipes/music.yaml", "music.yaml", "shipped/music"])
def test_finds_shipped_recipes_by_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe(find_recipe(name)).domain == "music"


def test_a_file_goes_before_a_shipped_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "music.yaml").write_text("mine")
    assert find_recipe("recipes/music.yaml").read_text() == "mine"


def test_unknown_recipe_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"there is no recipe 'musik'\. Give .* shipped: .*music, music-finetune"):
        find_recipe("musik")
    with pytest.raises(RecipeError, match="is a folder, not a recipe"):
        find_recipe(str(tmp_path))
    assert set(recipe_names()) >= {"music", "music-finetune", "shipped/music"}


def test_finds_shipped_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_data_folder("examples/corpus") == (shipped_folder("examples") / "corpus").resolve()
    assert find_shipped("examples/../pyproject.toml") is None
    assert find_shipped("") is None


def test_home_folders_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "songs").mkdir()
    assert find_data_folder("~/songs") == (tmp_path / "songs").resolve()
    with pytest.raises(InputFileError, match="~nobody-at-all/songs names a home folder that is not known here"):
        find_data_folder("~nobody-at-all/songs")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.num_layer=4", "unknown key 'model.num_layer' (value 4); the nearest is 'num_layers'"),
        ("modle.num_layers=4", "unknown key 'modle' (value {'num_layers': 4}); the nearest is 'model'"),
        ("data.sources.0.wieght=2", "unknown key 'data.sources.0.wieght' (value 2); the nearest is 'weight'"),
        ("model.shortcut.plaice=add", "unknown key 'model.shortcut.plaice' (value 'add'); the nearest is 'place'"),
        ("model.shortcut.place=beside", "model.shortcut.place is 'beside': input should be 'add' or 'replace'"),
        ("training.max_steps=many", "training.max_steps is 'many': input should be a valid integer"),
        ("training.max_steps=0", "training.max_steps is 0: input should be greater than or equal to 1"),
        ("training.learning_rate=.nan", "training.learning_rate is nan: input should be a finite number"),
        ("training.dropout=1", "training.dropout is 1: input should be less than 1"),
        ("training.batch_size=null", "training.batch_size is null: input should be a valid integer"),
        ("name=a/b", "name is 'a/b': string should match pattern"),
        ("model.model_dim=100", "model: model_dim 100 is not a multiple of 2 * num_heads (8)"),
        ("model.shortcut.depths=[2, 1]", "model: shortcut.depths [2, 1] must be increasing"),
        ("model.shortcut.window=9999", "model: shortcut.window 9999 is more than attention_window"),
        ("model.shortcut.depths=[3]", "model: shortcut.depths has 3, but the deepest layer"),
        ("init_from=music", "give either model or init_from, not both and not neither"),
        ("training.max_steps", "--set 'training.max_steps' has no '='. Write --set training.max_steps=500."),
        ("training.max_steps=[", "--set 'training.max_steps=[': the value is not valid YAML. Quote it."),
        ("training.max_steps=!!map [1]", "the value is not valid YAML. Quote it."),
        ("tokenizer.kind=&x [*x]", "--set 'tokenizer.kind=&x [*x]': the value is not valid YAML. Quote it."),
        ("data.folder=2023-02-30", "--set 'data.folder=2023-02-30': the value is not valid YAML. Quote it."),
        ("training.seed=20250131235959", "training.seed is 20250131235959: input should be less than 2147483648"),
        ("name.first=x", "--set 'name.first=x': name is a single value. Shorten the path."),
        ("data.sources=[]", "data: sources is empty; without it, all files"),
        ("data.download.archives.0.url=x", "the recipe has no list data.download.archives of which to change an item"),
        ("training.max_steps=yes", "training.max_steps is True: input should not be yes, no, on, off, true or false"),
        ("model.shortcut.map_dim=16", "model.shortcut: map_dim 16 is a width of feature_map mlp; with linear it must"),
        ("model={num_layers: 2, num_layers: 3}", "num_layers: 3}': 'num_layers' is given twice. Give it once."),
        ("data.sources=[{path: a}, {path: ./a/}]", "data: sources has 'a' twice; give it once, with the weights"),
        ("data.sources.5.weight=2", "data.sources is a list of 1 and has no item '5'. Use an index from 0."),
    ],
)
def test_a_mistake_names_key_value_and_remedy(tmp_path: Path, override: str, expected: str) -> None:
    content = yaml.safe_load(find_recipe("music").read_text())
    content["data"]["sources"] = [{"path": "."}]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    message = error_of(path, override)
    assert expected in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("num_layers", "place", "is_refused"), [(2, "replace", True), (2, "add", False), (3, "replace", False)]
)
def test_values_of_the_first_layer_need_a_layer_to_go_to(num_layers: int, place: str, *, is_refused: bool) -> None:
    model = (
        f"{{num_layers: {num_layers}, num_heads: 2, model_dim: 16, attention_window: 8, shortcut: {{place: {place}}}, "
    )
    overrides = ["model=" + model + "depth_mixing: value_residual}"]
    if not is_refused:
        assert load_recipe(find_recipe("music"), overrides=overrides).model.num_layers == num_layers
        return
    assert "depth_mixing value_residual needs a second layer with self-attention" in error_of(
        find_recipe("music"), *overrides
    )


@pytest.mark.parametrize("glob", ["", ".", "/etc/*", "../*.txt", "a/../b", "C:/x", "**.txt", "a/b**/c"])
@pytest.mark.parametrize("rule", ["cut.file", "files.train", "files.validation", "files.test", "table.file"])
def test_a_glob_that_no_folder_takes_is_refused(glob: str, rule: str) -> None:
    rules = {
        "cut": {"file": "*", "train_bytes": 1, "validation_bytes": 1, "test_bytes": 1},
        "files": {"train": "*", "validation": "*", "test": "*"},
        "table": {"file": "*", "path_column": "a", "split_column": "b"},
    }
    name, _, key = rule.partition(".")
    SplitsConfig.model_validate({name: rules[name] | {key: "**/a*/[bc]?.txt"}})
    with pytest.raises(ValidationError, match=r"a glob"):
        SplitsConfig.model_validate({name: rules[name] | {key: glob}})


def test_overrides_are_yaml(tmp_path: Path) -> None:
    overrides = ["training.learning_rate=2e-3", "model.shortcut=null", "training.augment=false", "name='7'"]
    recipe = load_recipe(find_recipe("music"), overrides=overrides)
    assert recipe.training.learning_rate == 0.002
    assert recipe.model.shortcut is None, "a plain GPT, not the default shortcut"
    assert recipe.training.augment is False
    assert recipe.name == "7"


def test_init_from_takes_the_place_of_the_model() -> None:
    recipe = load_recipe(find_recipe("music"), overrides=["model=null", "init_from=music"])
    assert recipe.model is None
    assert load_recipe(find_recipe("music-finetune")).init_from == "music"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [", "is not valid YAML in line 1"),
        (b"- a\n- b", "holds no settings"),
        (b"name: 2023-02-30", "is not valid YAML: day is out of range for month"),
        (b"name: !!map [1]", "is not valid YAML in line 1: expected a mapping node, but found sequence"),
        (b"name: !!timestamp never", "is not valid YAML: "),
        (b"name: !!bool maybe", "is not valid YAML: "),
        (b"name: !!int ''", "is not valid YAML: "),
        (b"a: " + b"[" * 3000 + b"]" * 3000, "is not valid YAML: it is nested too deeply"),
        (b"name: a\na: &x [*x]", "is not valid YAML in line 2: *x stands inside of what it stands for"),
        (b"&x\nname: a\ntokenizer: *x", "is not valid YAML in line 3: *x stands inside of what it stands for"),
        (b"tokenizer: &x {kind: [{a: &y 1}, *y, *x]}", "in line 1: *x stands inside of what it stands for"),
        (b"a: &x {<<: *x}", "is not valid YAML in line 1: *x stands inside of what it stands for"),
        (b"\xff\xfe\x00", "is not a text file"),
        (b"name: \xe9", "is not a text file"),
        (b"name: \x00", "is not a text file"),
        (b"name: a", "key 'domain' is missing"),
        (b"model:\n  num_layers: 2\n  num_layers: 3\n", "is not valid YAML in line 3: 'num_layers' is given twice"),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    assert f"{path}" in error_of(path)
    assert expected in error_of(path)


@pytest.mark.parametrize("key", ["name", "nmae"])
def test_a_value_of_many_aliases_is_not_written_out(key: str) -> None:
    """Each of twenty lists has the one before it twice, which is a million times x."""
    lists = ", ".join(f"&a{number} [*a{number - 1}, *a{number - 1}]" for number in range(1, 21))
    message = error_of(find_recipe("music"), f"{key}=[&a0 x, {lists}]")
    assert key in message
    assert len(message) < 1000


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(find_recipe("music").read_text(encoding="utf-8"), encoding=encoding)
    assert load_recipe(path) == load_recipe(find_recipe("music"))


def test_a_recipe_as_run_says_the_same_again(tmp_path: Path) -> None:
    for overrides in ([], ["model.shortcut=null"], ["model=null", "init_from=music"]):
        recipe = load_recipe(find_recipe("music"), overrides=overrides)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        assert load_recipe(path) == recipe
    assert isinstance(recipe, Recipe)
