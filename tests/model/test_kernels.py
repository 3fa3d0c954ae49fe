"""The compiled loops give what torch gives, in floats and in halves, and say so where they cannot be kept."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses

from adaptgen.model import compiling, kernels

CONTINUE = """
import hashlib
import sys
from pathlib import Path
import numpy as np
from adaptgen.checkpoint import load_checkpoint
from adaptgen.continuation import continue_file
from adaptgen.domains.base import ContinuationRequest
from adaptgen.errors import AdaptgenError
from adaptgen.model import new_decoder
from adaptgen.sampling import Sampling

told = []
try:
    checkpoint = load_checkpoint("text-twin-shortcut")
    continue_file(
        Path(sys.argv[1]),
        checkpoint,
        ContinuationRequest(words=3),
        Sampling(),
        on_compiling=lambda: told.append(1), is_adapting=False
    )
    decoder = new_decoder(checkpoint.model)
    decoder.start(np.arange(40)[None], 6)
    logits = [decoder.step(np.arange(6)[:, None] + step) for step in range(8)]
    print("compiled" if told else "read", hashlib.sha256(np.stack(logits).tobytes()).hexdigest())
except AdaptgenError as error:
    print(error)
"""


@numba.njit
def fill(x: np.ndarray, out: np.ndarray, is_exponential: bool) -> None:
    for i in range(len(x)):
        if is_exponential:
            out[i] = kernels.exponential(x[i])
        else:
            out[i] = kernels.stored(x[i], out)


@pytest.fixture(params=[np.float16, np.float32])
def dtype(request: pytest.FixtureRequest) -> type:
    if request.param == np.float16 and not compiling.has_half_conversion():
        pytest.skip("this processor does not convert float16")
    return request.param


def as_stored(x: np.ndarray, dtype: type) -> np.ndarray:
    return x.astype(dtype).view(np.uint16) if dtype == np.float16 else x


def test_exponential() -> None:
    x = np.linspace(-87, 0, 10_001, dtype=np.float32)
    out = np.empty_like(x)
    fill(x, out, True)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=1e-6)
    fill(np.float32([-1e4, -1e30]), out, True)
    assert (out[:2] < 1e-37).all()


def test_gelu() -> None:
    x = torch.linspace(-10, 10, 4_001)[None]
    out = x.numpy().copy()
    kernels.gelu(out)
    torch.testing.assert_close(torch.from_numpy(out), F.gelu(x), atol=1e-6, rtol=1e-6)


def test_what_is_stored_is_rounded_and_within_range(dtype: type) -> None:
    x = np.float32([0, 1, -1 / 3, 1e-6, 65_504, 65_519, -65_504, 1e9, -1e9])
    out = as_stored(np.zeros_like(x), dtype)
    fill(x, out, False)
    expected = x.clip(-65_504, 65_504).astype(dtype)
    assert np.array_equal(out.view(dtype), expected)


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("num_outputs", [1, 3, 4, 7, 8])
@pytest.mark.parametrize("num_inputs", [1, 6, 40])
def test_products_of_any_shape(num_rows: int, num_outputs: int, num_inputs: int, dtype: type) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(num_rows, num_inputs)).astype(np.float32)
    matrix = random.normal(size=(num_outputs, num_inputs)).astype(np.float32).astype(dtype)
    found = kernels.multiply(x, as_stored(matrix, dtype) if dtype == np.float32 else matrix.view(np.uint16))
    np.testing.assert_allclose(found, x @ matrix.astype(np.float32).T, atol=1e-5)


def test_halves_are_used_where_the_processor_converts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for machine, features, expected in (
        ("x86_64", {"f16c": True}, True),
        ("AMD64", {"avx": True}, False),
        ("arm64", {}, True),
        ("ARM64", {}, True),
    ):
        monkeypatch.setattr(platform, "machine", lambda machine=machine: machine)
        monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda features=features: features)
        assert compiling.has_half_conversion() is expected
        monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
        assert not compiling.has_half_conversion()
        monkeypatch.setattr(numba.config, "CPU_NAME", None)


def test_compiled_loops_are_kept_compute_the_same_then_and_damaged_ones_are_named(tmp_path: Path) -> None:
    story, cache = tmp_path / "story.txt", tmp_path / "cache"
    story.write_text("Once there was a king who had")

    def run() -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
        command = [sys.executable, "-c", CONTINUE, str(story)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    how, digest = run().split()
    assert how == "compiled"
    # To the last bit, or the same seed would not give the same bytes.
    assert run().split() == ["read", digest]
    for content in (b"", b"\x80\x04"):
        for path in cache.rglob("*.nbi"):
            path.write_bytes(content)
        said = run()
        assert str(cache) in said
        assert "NUMBA_CACHE_DIR" in said


def test_without_a_place_to_keep_them_loops_are_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def njit(cache: bool = False, **options: object) -> object:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: function

    monkeypatch.setattr(numba, "njit", njit)
    assert compiling.compiled(abs) is abs
