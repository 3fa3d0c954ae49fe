"""Codecs of the real architectures with weights drawn at random, in the layout of the Hugging Face hub.

The published weights are not to be had here. Mimi and DAC are narrower than the published ones unless asked for, with
the same strides and streams; EnCodec is as published.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

__all__ = ["PUBLISHED", "write_network"]

NARROW_MIMI = {
    "hidden_size": 64,
    "num_filters": 8,
    "codebook_dim": 16,
    "vector_quantization_hidden_dimension": 16,
    "upsample_groups": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "codebook_size": 256,
}
NARROW_DAC = {"encoder_hidden_size": 8, "decoder_hidden_size": 64, "codebook_size": 256}
# What the published ones say, as far as it differs from transformers' defaults.
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "encodec_24khz": ("Encodec", {}),
    "mimi": ("Mimi", {}),
    "dac_16khz": ("Dac", {"sampling_rate": 16_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 12}),
    "dac_24khz": ("Dac", {"sampling_rate": 24_000, "downsampling_ratios": [2, 4, 5, 8], "n_codebooks": 32}),
    "dac_44khz": ("Dac", {"sampling_rate": 44_100, "downsampling_ratios": [2, 4, 8, 8], "n_codebooks": 9}),
}
NARROW: dict[str, dict[str, Any]] = {"Encodec": {}, "Mimi": NARROW_MIMI, "Dac": NARROW_DAC}


def write_network(name: str, folder: Path, *, is_narrow: bool = True, **changes: Any) -> Path:
    """Write config.json and model.safetensors of a codec into a folder; skips the test without transformers.

    Args:
        name: of the codec.
        folder: made if it is missing.
        is_narrow: narrower than published, where that is quicker.
        changes: of settings.
    """
    transformers = pytest.importorskip("transformers")
    kind, settings = PUBLISHED[name]
    settings = settings | (NARROW[kind] if is_narrow else {}) | changes
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**settings))
        # Books of zeros, which some begin with, would tell nothing apart.
        for key, tensor in model.state_dict().items():
            if key.endswith((".embed", ".embed_sum")):
                tensor.normal_()
            # EnCodec's default weights let the signal vanish.
            if key.endswith(".weight.original0"):
                tensor.mul_(2.2)
    model.save_pretrained(folder)
    return folder
