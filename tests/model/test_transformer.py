"""The transformer: what it may see, that it sees it, and that decoding computes what training does."""

from __future__ import annotations

import math
from typing import Literal, get_args, get_origin

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name everybody uses
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adaptgen.config import ModelConfig, Settings, ShortcutConfig
from adaptgen.model import Transformer, transformer
from adaptgen.model.transformer import attend, rotary_table, rotate

NUM_LAYERS, WINDOW = 3, 8


def literals(settings: type[Settings], name: str) -> list[str]:
    """All values that a setting of choices may have, but for none."""
    annotation = settings.model_fields[name].annotation
    choices = [get_args(part) if get_origin(part) is Literal else (part,) for part in get_args(annotation)]
    return [value for values in choices for value in values if isinstance(value, str)]


# So that an option that is added to the schema is tested, or else fails here.
SHORTCUTS = {
    **{
        f"{place}-{feature_map}": ShortcutConfig(place=place, feature_map=feature_map)
        for place in literals(ShortcutConfig, "place")
        for feature_map in literals(ShortcutConfig, "feature_map")
    },
    "add-narrow": ShortcutConfig(window=3),
}
DEPTH_MIXINGS = tuple(literals(ModelConfig, "depth_mixing"))
SCALED, BOTH = "scaled embedding", "shortcut and value_residual"
VARIANTS = ("plain", SCALED, BOTH, *SHORTCUTS, *DEPTH_MIXINGS)
ONE_STREAM, FOUR_STREAMS = (13,), (13, 7, 11, 5)

all_variants = pytest.mark.parametrize("variant", VARIANTS)
all_streams = pytest.mark.parametrize("vocab_sizes", [ONE_STREAM, FOUR_STREAMS], ids=["K1", "K4"])


def build(
    shortcut: ShortcutConfig | None,
    vocab_sizes: tuple[int, ...] = ONE_STREAM,
    *,
    num_layers: int = NUM_LAYERS,
    window: int = WINDOW,
    trained: bool = True,
    depth_mixing: str | None = None,
    scale_embedding: bool = False,
) -> Transformer:
    """A tiny model; `trained` gives it weights so large that attention is far from uniform."""
    torch.manual_seed(0)
    config = ModelConfig(
        num_layers=num_layers,
        num_heads=2,
        model_dim=16,
        attention_window=window,
        shortcut=shortcut,
        depth_mixing=depth_mixing,
        scale_embedding=scale_embedding,
    )
    model = Transformer(config, vocab_sizes).eval()
    if trained:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def build_variant(variant: str, vocab_sizes: tuple[int, ...] = ONE_STREAM, *, trained: bool = True) -> Transformer:
    depth_mixing = "value_residual" if variant == BOTH else variant if variant in DEPTH_MIXINGS else None
    return build(
        ShortcutConfig() if variant == BOTH else SHORTCUTS.get(variant),
        vocab_sizes,
        trained=trained,
        depth_mixing=depth_mixing,
        scale_embedding=variant == SCALED,
    )


def random_tokens(vocab_sizes: tuple[int, ...], length: int, *, batch_size: int = 2, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    streams = [torch.randint(size, (batch_size, length), generator=generator) for size in vocab_sizes]
    return torch.stack(streams, dim=1)


def finite(logits: Tensor) -> Tensor:
    """Logits with the places that a smaller vocabulary lacks at zero, so that they can be subtracted."""
    return logits.masked_fill(logits == -torch.inf, 0.0)


def changed_frames(model: Transformer, tokens: Tensor, frame: int, *, stream: int = 0) -> Tensor:
    """Which frames' logits differ, by more than rounding, when one token is another one: bool `[T]`."""
    other = tokens.clone()
    other[:, stream, frame] = (other[:, stream, frame] + 1) % model.vocab_sizes[stream]
    with torch.no_grad():
        difference = finite(model(tokens)) - finite(model(other))
    return difference.abs().amax(dim=(0, 1, 3)) > 1e-6


@torch.no_grad()
def in_chunks(model: Transformer, tokens: Tensor, lengths: list[int]) -> Tensor:
    cache = model.new_cache(tokens.shape[0])
    pieces = [model(piece, cache) for piece in tokens.split(lengths, dim=2)]
    assert cache.num_frames == tokens.shape[2]
    return torch.cat(pieces, dim=2)


class TestDecoding:
    """Feeding a sequence in any pieces through a cache is feeding it whole."""

    @all_variants
    @all_streams
    @settings(max_examples=15, deadline=None)
    @given(lengths=st.lists(st.integers(1, 3 * WINDOW), min_size=1, max_size=8))
    def test_random_chunks(self, variant: str, vocab_sizes: tuple[int, ...], lengths: list[int]) -> None:
        model = build_variant(variant, vocab_sizes)
        tokens = random_tokens(vocab_sizes, sum(lengths))
        with torch.no_grad():
            whole = model(tokens)
        torch.testing.assert_close(in_chunks(model, tokens, lengths), whole, atol=1e-4, rtol=0)

    @all_variants
    @all_streams
    @pytest.mark.parametrize("chunk", [1, WINDOW - 1, WINDOW, WINDOW + 1, 5 * WINDOW])
    def test_far_past_the_window(self, variant: str, vocab_sizes: tuple[int, ...], chunk: int) -> None:
        length = 10 * WINDOW + 3
        model = build_variant(variant, vocab_sizes)
        tokens = random_tokens(vocab_sizes, length, batch_size=3)
        lengths = [chunk] * (length // chunk) + ([length % chunk] if length % chunk else [])
        with torch.no_grad():
            whole = model(tokens)
        torch.testing.assert_close(in_chunks(model, tokens, lengths), whole, atol=1e-4, rtol=0)

    def test_rows_of_a_batch_do_not_mix(self) -> None:
        model, tokens = build_variant("add-linear"), random_tokens(ONE_STREAM, 20, batch_size=3)
        together = in_chunks(model, tokens, [7, 6, 7])
        for row in range(3):
            alone = in_chunks(model, tokens[row : row + 1], [7, 6, 7])
            torch.testing.assert_close(together[row : row + 1], alone, atol=1e-4, rtol=0)

    def test_training_after_inference_mode(self) -> None:
        """What is kept between calls must be usable by autograd whoever made it first."""
        transformer.band_mask.cache_clear()
        model, tokens = build_variant("add-linear"), random_tokens(ONE_STREAM, 2 * WINDOW)
        with torch.inference_mode():
            model(tokens)
        model(tokens).sum().backward()

    def test_missing_tokens_of_smaller_vocabularies_are_impossible(self) -> None:
        logits = build(None, FOUR_STREAMS)(random_tokens(FOUR_STREAMS, 5))
        assert logits.shape == (2, 4, 5, 13)
        for stream, size in enumerate(FOUR_STREAMS):
            assert torch.isfinite(logits[:, stream, :, :size]).all()
            assert (logits[:, stream, :, size:] == -torch.inf).all()


class TestCausality:
    @all_variants
    @all_streams
    def test_no_logit_before_a_changed_token_changes(self, variant: str, vocab_sizes: tuple[int, ...]) -> None:
        model, tokens = build_variant(variant, vocab_sizes), random_tokens(vocab_sizes, 2 * WINDOW)
        for frame in range(2 * WINDOW):
            for stream in range(len(vocab_sizes)):
                changed = changed_frames(model, tokens, frame, stream=stream)
                assert not changed[:frame].any(), f"a change at {frame} was seen before it"
                assert changed[frame], f"a change at {frame} was not seen at {frame}"
                assert frame == 2 * WINDOW - 1 or changed[frame + 1], "nor by the frame after it"

    @pytest.mark.parametrize("depth", range(NUM_LAYERS - 1))
    @pytest.mark.parametrize("place", ["add", "replace"])
    @pytest.mark.parametrize("feature_map", ["linear", "mlp"])
    def test_each_depth_alone(self, depth: int, place: str, feature_map: str) -> None:
        model = build(ShortcutConfig(place=place, feature_map=feature_map, depths=(depth,)))
        tokens = random_tokens(ONE_STREAM, WINDOW)
        for frame in range(WINDOW):
            changed = changed_frames(model, tokens, frame)
            assert not changed[:frame].any()
            assert changed[frame:].all()

    @pytest.mark.parametrize("variant", SHORTCUTS)
    def test_keys_of_each_depth_matter(self, variant: str) -> None:
        """A key that draws more or less attention changes the output: depths are weighed, not averaged."""
        model, tokens = build_variant(variant), random_tokens(ONE_STREAM, 2 * WINDOW)
        shortcut = model.blocks[-1].shortcut
        with torch.no_grad():
            before = model(tokens)
            for index in range(len(shortcut.depths)):
                shortcut.key_bias[index] += 1.0
                assert (model(tokens) - before).abs().max() > 1e-3
                shortcut.key_bias[index] -= 1.0

    def test_depths_are_the_layers_they_name(self) -> None:
        """Depth 0 is the embedding: with every block silent it alone still tells past tokens apart."""
        model = build(ShortcutConfig(depths=(0,)), num_layers=2)
        with torch.no_grad():
            model.blocks[0].attention.out.weight.zero_()
            model.blocks[1].attention.out.weight.zero_()
        tokens = random_tokens(ONE_STREAM, WINDOW)
        assert changed_frames(model, tokens, 0).all()
        with torch.no_grad():
            model.blocks[1].shortcut.out.weight.zero_()
        assert changed_frames(model, tokens, 0).tolist() == [True] + [False] * (WINDOW - 1)


class TestWindow:
    @pytest.mark.parametrize("shortcut", [None, ShortcutConfig(depths=(0,))], ids=["plain", "shortcut"])
    def test_a_token_beyond_the_window_has_no_influence(self, shortcut: ShortcutConfig | None) -> None:
        """One attention over frames sees exactly `window` of them."""
        model = build(shortcut, num_layers=1 if shortcut is None else 2)
        if shortcut is not None:
            with torch.no_grad():
                for block in model.blocks:
                    block.attention.out.weight.zero_()
        changed = changed_frames(model, random_tokens(ONE_STREAM, 3 * WINDOW), 2)
        assert changed.tolist() == [2 <= frame < 2 + WINDOW for frame in range(3 * WINDOW)]

    def test_a_shortcut_may_see_less_than_self_attention(self) -> None:
        model = build(ShortcutConfig(depths=(0,), window=1), num_layers=2)
        with torch.no_grad():
            for block in model.blocks:
                block.attention.out.weight.zero_()
        assert changed_frames(model, random_tokens(ONE_STREAM, WINDOW), 2).nonzero().tolist() == [[2]]

    def test_layers_reach_further_together(self) -> None:
        model = build(None, num_layers=2)
        changed = changed_frames(model, random_tokens(ONE_STREAM, 3 * WINDOW), 2)
        assert changed.tolist() == [2 <= frame < 2 + 2 * WINDOW - 1 for frame in range(3 * WINDOW)]


def attend_by_hand(query: Tensor, keys: Tensor, values: Tensor, window: int) -> Tensor:
    """One softmax over all (frame, depth) pairs that a query sees, query by query."""
    num_queries, num_keys, head_dim = query.shape[2], keys.shape[2], query.shape[3]
    output = torch.empty_like(query)
    for index in range(num_queries):
        frame = num_keys - num_queries + index
        seen = slice(max(0, frame - window + 1), frame + 1)
        scores = torch.einsum("bhd,bhsnd->bhsn", query[:, :, index], keys[:, :, seen]) / math.sqrt(head_dim)
        weights = scores.flatten(2).softmax(dim=-1).view(scores.shape)
        output[:, :, index] = torch.einsum("bhsn,bhsnd->bhd", weights, values[:, :, seen])
    return output


class TestAttend:
    @settings(max_examples=60, deadline=None)
    @given(
        num_queries=st.integers(1, 20),
        num_past=st.integers(0, 15),
        num_depths=st.integers(1, 3),
        window=st.integers(1, 24),
        piece=st.integers(1, 9),
    )
    def test_equals_one_softmax_over_frames_and_depths(
        self, num_queries: int, num_past: int, num_depths: int, window: int, piece: int
    ) -> None:
        generator = torch.Generator().manual_seed(num_queries)
        shape = (2, 2, num_queries + num_past, num_depths, 4)
        query = torch.randn(2, 2, num_queries, 4, generator=generator)
        keys, values = (torch.randn(shape, generator=generator) for _ in range(2))
        expected = attend_by_hand(query, keys, values, window)
        with pytest.MonkeyPatch.context() as patch:
            for pieces in (transformer.QUERIES_PER_PIECE, piece):
                patch.setattr(transformer, "QUERIES_PER_PIECE", pieces)
                torch.testing.assert_close(attend(query, keys, values, window=window), expected, atol=1e-5, rtol=0)

    @all_variants
    def test_size_of_pieces_does_not_change_logits(self, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
        model, tokens = build_variant(variant), random_tokens(ONE_STREAM, 4 * WINDOW)
        with torch.no_grad():
            whole = model(tokens)
            for piece in (1, 3, WINDOW):
                monkeypatch.setattr(transformer, "QUERIES_PER_PIECE", piece)
                torch.testing.assert_close(model(tokens), whole, atol=1e-4, rtol=0)


class TestRotary:
    @settings(max_examples=40, deadline=None)
    @given(start=st.integers(0, 1_000_000), distance=st.integers(0, 2_000), shift=st.integers(0, 1_000_000))
    def test_scores_depend_on_the_distance_alone(self, start: int, distance: int, shift: int) -> None:
        """arXiv:2104.09864, eq. 16, also where a continuation has gone on for a million frames."""
        generator = torch.Generator().manual_seed(0)
        query, key = torch.randn(2, 1, 32, generator=generator)

        def score(query_frame: int) -> Tensor:
            rotated = [
                rotate(x, rotary_table(frame, 1, 32, device=x.device))
                for x, frame in ((query, query_frame), (key, query_frame - distance))
            ]
            return (rotated[0] * rotated[1]).sum()

        first = start + distance
        torch.testing.assert_close(score(first), score(first + shift), atol=1e-4, rtol=0)

    def test_keeps_lengths(self) -> None:
        x = torch.randn(5, 16)
        rotated = rotate(x, rotary_table(7, 5, 16, device=x.device))
        torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1))

    def test_table_continues_itself(self) -> None:
        whole, later = (rotary_table(start, 20 - start, 8, device=torch.device("cpu")) for start in (0, 12))
        for part in range(2):
            torch.testing.assert_close(whole[part][12:], later[part])


class TestLearning:
    @all_variants
    @all_streams
    @pytest.mark.parametrize("trained", [False, True])
    def test_gradient_reaches_every_parameter(self, variant: str, vocab_sizes: tuple[int, ...], trained: bool) -> None:
        model = build_variant(variant, vocab_sizes, trained=trained).train()
        tokens = random_tokens(vocab_sizes, 2 * WINDOW)
        logits = model(tokens[:, :, :-1])
        F.cross_entropy(logits.flatten(0, 2), tokens[:, :, 1:].flatten()).backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, f"{name} is not used"
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, f"no gradient reaches {name}"

    @pytest.mark.parametrize("feature_map", ["linear", "mlp"])
    def test_gradient_reaches_the_feature_map_of_every_depth(self, feature_map: str) -> None:
        model = build(ShortcutConfig(feature_map=feature_map), num_layers=5, trained=False)
        model(random_tokens(ONE_STREAM, WINDOW)).logsumexp(dim=-1).sum().backward()
        maps = model.blocks[-1].shortcut.maps
        assert len(maps) == 4
        for feature in maps:
            assert all(parameter.grad.abs().max() > 0 for parameter in feature.parameters())

    def test_weights_that_read_the_stream_have_the_deviation_that_is_asked_for(self) -> None:
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=64, attention_window=WINDOW, init_std=0.1)
        block = Transformer(config, ONE_STREAM).blocks[-1]
        for layer in (block.attention.qkv, block.shortcut.query, block.mlp.up):
            assert float(layer.weight.detach().std()) == pytest.approx(0.1, rel=0.1)
        assert float(block.mlp.down.weight.detach().std()) == pytest.approx(0.01, rel=0.1), "less by depth"

    def test_a_scaled_embedding_is_times_the_root_of_the_width(self) -> None:
        model, tokens = build_variant(SCALED, trained=False), random_tokens(ONE_STREAM, 8)
        read: list[Tensor] = []
        model.blocks[0].register_forward_pre_hook(lambda block, args: read.append(args[0]))
        model(tokens)
        torch.testing.assert_close(read[0], model.embeddings[0](tokens[:, 0]) * math.sqrt(16))

    @all_variants
    def test_loss_of_a_new_model_is_that_of_guessing(self, variant: str) -> None:
        size = 500
        model, tokens = build_variant(variant, (size,), trained=False), random_tokens((size,), 64)
        with torch.no_grad():
            loss = F.cross_entropy(model(tokens[:, :, :-1]).flatten(0, 2), tokens[:, :, 1:].flatten())
        assert float(loss) == pytest.approx(math.log(size), abs=0.05)

    def test_dropout_acts_in_training_only(self) -> None:
        config = ModelConfig(num_layers=2, num_heads=2, model_dim=16, attention_window=WINDOW)
        model, tokens = Transformer(config, ONE_STREAM, dropout=0.5), random_tokens(ONE_STREAM, WINDOW)
        torch.manual_seed(0)
        assert not torch.equal(model(tokens), model(tokens))
        model.eval()
        assert torch.equal(model(tokens), model(tokens))


class TestVariants:
    @pytest.mark.parametrize("feature_map", ["linear", "mlp"])
    def test_silenced_shortcut_is_the_plain_model(self, feature_map: str) -> None:
        model = build(ShortcutConfig(place="add", feature_map=feature_map))
        plain, tokens = build(None), random_tokens(ONE_STREAM, 2 * WINDOW)
        weights = model.state_dict()
        plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
        with torch.no_grad():
            assert (model(tokens) - plain(tokens)).abs().max() > 1e-2
            model.blocks[-1].shortcut.out.weight.zero_()
            assert torch.equal(model(tokens), plain(tokens))

    def test_replacement_has_no_self_attention_in_the_last_block(self) -> None:
        model = build_variant("replace-linear")
        assert model.blocks[-1].attention is None
        assert model.blocks[-1].shortcut.depths == (0, 1, 2)
        assert build_variant("add-linear").blocks[-1].shortcut.depths == (0, 1)

    @torch.no_grad()
    def test_denseformer_begins_as_the_plain_model_and_weighs_all_layers(self) -> None:
        model, plain = build_variant("denseformer", trained=False), build(None, trained=False)
        tokens = random_tokens(ONE_STREAM, WINDOW)
        plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
        assert torch.equal(model(tokens), plain(tokens))
        average = model.averages[1]
        average.weights.copy_(torch.tensor([2.0, -1.0, 0.5]))
        x, y, z = torch.randn(3, 2, 4, 16)
        torch.testing.assert_close(average([x, y, z]), 2 * x - y + z / 2)

    @torch.no_grad()
    def test_attention_residual_begins_with_the_mean_and_follows_its_query(self) -> None:
        residual = build_variant("attention_residual", trained=False).residual
        outputs = list(torch.randn(3, 2, 4, 16))
        torch.testing.assert_close(residual(outputs), sum(outputs) / 3)
        residual.query[5] = 1000.0
        wanted = torch.stack([x[..., 5] / x.pow(2).mean(-1).sqrt() for x in outputs]).argmax(0)
        chosen = torch.stack(outputs).gather(0, wanted[None, ..., None].expand(1, 2, 4, 16))[0]
        torch.testing.assert_close(residual(outputs), chosen)

    @torch.no_grad()
    def test_value_residual_without_the_first_values_is_the_plain_model(self) -> None:
        model, plain = build_variant("value_residual"), build(None)
        tokens = random_tokens(ONE_STREAM, WINDOW)
        plain.load_state_dict({name: model.state_dict()[name] for name in plain.state_dict()})
        assert (model(tokens) - plain(tokens)).abs().max() > 1e-2
        for block in model.blocks[1:]:
            block.attention.value_weights.copy_(torch.tensor([0.0, 1.0]))
        torch.testing.assert_close(model(tokens), plain(tokens))

    def test_a_shortcut_and_another_way_to_mix_depths_exclude_each_other(self) -> None:
        with pytest.raises(ValueError, match="takes the place of a shortcut"):
            build(ShortcutConfig(), depth_mixing="denseformer")
