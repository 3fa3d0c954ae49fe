"""What may import what: a module knows only lower layers, domains only through their common face, and of each module
what its `__all__` lists."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from safetensors import safe_open

import adaptgen
from adaptgen import domains
from adaptgen.domains.base import Tokenizer

PACKAGE = Path(adaptgen.__file__).parent
# Of modules, and of packages with all that is in them. A new one at the top is given its place here.
LAYERS = {
    "adaptgen": 0,
    "adaptgen.errors": 0,
    "adaptgen.palette": 0,
    "adaptgen.paths": 1,
    "adaptgen.config": 1,
    "adaptgen.recall": 1,
    "adaptgen.sampling": 1,
    "adaptgen.shipped": 1,
    "adaptgen.checkpoint_files": 2,
    "adaptgen.corpus_files": 2,
    "adaptgen.model": 2,
    "adaptgen.recipe_files": 2,
    "adaptgen.reading": 3,
    "adaptgen.domains.base": 2,
    "adaptgen.domains.*": 3,
    "adaptgen.domains": 4,
    "adaptgen.checkpoint": 5,
    "adaptgen.generation": 5,
    "adaptgen.shards": 5,
    "adaptgen.adaptation": 6,
    "adaptgen.datasets": 6,
    "adaptgen.evaluation": 6,
    "adaptgen.inspection": 6,
    "adaptgen.continuation": 7,
    "adaptgen.training": 7,
    "adaptgen.cli": 8,
    "adaptgen.__main__": 9,
}
FACES = ("adaptgen.domains", "adaptgen.domains.base")
# Bytes as tokens, and bars that are one byte long: the smallest domain there can be.
TOY = """
import numpy as np

from adaptgen.domains.base import Continuation, Domain, Grammar, Prompt, Tokenizer


class Bytes(Tokenizer):
    begin = 256
    unit_name = "byte"
    vocab_sizes = (257,)
    fingerprint = "bytes"

    def count_units(self, tokens):
        return int((tokens[0] < 256).sum())

    def describe(self, tokens):
        return [repr(chr(token)) for token in tokens[0]]

    def kinds_of(self, tokens):
        return ["byte"] * tokens.shape[1]

    def to_options(self):
        return {}

    @classmethod
    def from_options(cls, options):
        return cls()

    def save(self, folder):
        pass

    @classmethod
    def load(cls, folder, options):
        return cls()


class SoManyBytes(Grammar):
    def __init__(self, count):
        self.count = self.left = count

    # The frame that ends a continuation is no part of it.
    is_done = property(lambda self: self.left < 0)
    progress = property(lambda self: 1 - max(0, self.left) / self.count)

    def allowed(self):
        return np.arange(257)[None] < 256

    def accept(self, frame):
        self.left -= 1


class Text(Prompt):
    def __init__(self, path, count):
        self.text, self.count = path.read_bytes(), count

    tokens = property(lambda self: np.array([[256, *self.text]]))

    def new_grammar(self):
        return SoManyBytes(self.count)

    def complete(self, new_tokens, *, seed=(0, 0)):
        return Continuation(files={".toy": self.text + bytes(new_tokens[0].tolist())})


class Toy(Domain):
    name = "toy"
    default_checkpoint = "toy"
    example_input = "song.toy"
    held_out = "examples/toy"
    suffixes = (".toy",)
    tokenizer_type = Bytes

    def read_documents(self, path, tokenizer, *, is_training):
        return [np.array([[tokenizer.begin, *path.read_bytes()]])]

    def augment(self, tokenizer, tokens, other, rng):
        return tokens

    def check_roundtrip(self, path, tokenizer):
        return {}

    def render(self, path, *, soundfont):
        return b""

    def result_suffixes(self, path, request):
        return [".toy"]

    def read_prompt(self, path, tokenizer, request, *, window):
        return Text(path, request.bars)


DOMAIN = Toy()
"""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(name: str) -> Iterator[str]:
    """Modules of adaptgen that a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "adaptgen")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name} has a relative import"
            if node.module and node.module.split(".")[0] == "adaptgen":
                # `from package import module` imports the module.
                yield from (
                    full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
                )


def names_used_by(name: str) -> Iterator[tuple[str, str]]:
    """Modules of adaptgen, and the names in them that a module imports or reads as `module.name`."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                if (full := f"{node.module}.{alias.name}") in MODULES:
                    modules[alias.asname or alias.name] = full
                else:
                    yield node.module, alias.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            yield modules[node.value.id], node.attr


def listed_by(name: str) -> set[str]:
    """The names in a module's `__all__`; none without one."""
    for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return set(ast.literal_eval(node.value))
    return set()


def layer(name: str) -> int:
    if domain_of(name) is not None:
        return LAYERS["adaptgen.domains.*"]
    return LAYERS[name if name in LAYERS else unit(name)]


def domain_of(name: str) -> str | None:
    """The domain that a module belongs to: of adaptgen.domains.music.grid, music."""
    parts = name.split(".")
    return parts[2] if parts[:2] == ["adaptgen", "domains"] and len(parts) > 2 and parts[2] != "base" else None


def unit(name: str) -> str:
    """What counts as one thing whose modules may import each other: a package, or a module beside packages."""
    return ".".join(name.split(".")[: 3 if name.startswith("adaptgen.domains") else 2])


@pytest.mark.parametrize("name", MODULES)
def test_imports_lower_layers_only(name: str) -> None:
    for imported in imports_of(name):
        assert unit(imported) == unit(name) or layer(imported) < layer(name), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_domains_are_reached_through_their_face_only(name: str) -> None:
    for imported in imports_of(name):
        if imported.startswith("adaptgen.domains") and imported not in FACES:
            assert domain_of(imported) == domain_of(name), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_only_listed_names_are_imported(name: str) -> None:
    for module, used in names_used_by(name):
        is_listed = used in listed_by(module) or used == "__version__"
        assert is_listed, f"{name} uses {used}, which __all__ of {module} lacks"


def test_there_is_something_to_check() -> None:
    assert ("adaptgen.domains.music.smf", "load") in names_used_by("adaptgen.domains.music.song")
    assert "Grid" in listed_by("adaptgen.domains.music.grid")
    assert "adaptgen.domains.base" in imports_of("adaptgen.shards")
    assert "adaptgen.domains" in imports_of("adaptgen.checkpoint")
    assert layer("adaptgen.domains.music.grid") < layer("adaptgen.domains") < layer("adaptgen.training.loop")


def test_config_and_model_know_little() -> None:
    for name in ("adaptgen.config", "adaptgen.sampling", "adaptgen.shipped"):
        assert set(imports_of(name)) <= {"adaptgen.errors"}
    assert set(imports_of("adaptgen.recipe_files")) == {"adaptgen.config", "adaptgen.errors"}
    assert {unit(imported) for imported in imports_of("adaptgen.model.transformer")} <= {
        "adaptgen.config",
        "adaptgen.model",
    }


@pytest.fixture
def toy_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fourth domain: one new folder, nothing else."""
    (tmp_path / "domains" / "toy").mkdir(parents=True)
    (tmp_path / "domains" / "toy" / "__init__.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(domains, "__path__", [*domains.__path__, str(tmp_path / "domains")])


def test_a_new_domain_is_one_new_folder(
    toy_domain: None, tmp_path: Path, adaptgen_here: Callable[..., tuple[int, str, str]], tiny_recipe: Path
) -> None:
    assert "toy" in domains.names()
    for index in range(4):
        (tmp_path / f"{index}.toy").write_text(f"{index} potato " * 50)
    code, out, err = adaptgen_here("train", tiny_recipe, "--data", ".", "--set=domain=toy", "--set=tokenizer={}")
    assert code == 0, err
    assert "adaptgen continue song.toy --checkpoint runs/tiny/best" in out
    code, _, err = adaptgen_here("continue", "0.toy", "--bars", 9, "--checkpoint", "runs/tiny/best", "--no-wav")
    assert code == 0, err
    prompt, result = (tmp_path / name for name in ("0.toy", "0.continued.toy"))
    assert result.read_bytes()[:-9] == prompt.read_bytes()


def test_a_tokenizer_may_learn_how_many_tokens_it_has(
    toy_domain: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    adaptgen_here: Callable[..., tuple[int, str, str]],
    tiny_recipe: Path,
) -> None:
    def learn(tokenizer: Tokenizer, paths: Iterable[Path]) -> None:
        tokenizer.vocab_sizes = (257 + len(list(paths)),)

    for index in range(4):
        (tmp_path / f"{index}.toy").write_text(f"{index} potato " * 50)
    monkeypatch.setattr(domains.get("toy").tokenizer_type, "fit", learn)
    code, _, err = adaptgen_here("train", tiny_recipe, "--data", ".", "--set=domain=toy", "--set=tokenizer={}")
    assert code == 0, err
    with safe_open(tmp_path / "runs/tiny/best/model.safetensors", framework="pt") as file:
        assert file.get_slice("embeddings.0.weight").get_shape() == [260, 32]
