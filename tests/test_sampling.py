"""Temperature and filters against their definitions, written out one token at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptgen.errors import UsageError
from adaptgen.sampling import Sampling

LOGITS = st.lists(
    st.one_of(st.just(-math.inf), st.floats(-8, 8).map(lambda value: round(value, 2))), min_size=1, max_size=12
).filter(lambda logits: max(logits) > -math.inf)


def by_hand(
    logits: list[float], *, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> list[float]:
    """Probabilities by the definitions: temperature, min-p, then top-k, then top-p on what min-p left."""
    weights = [math.exp(logit / temperature) for logit in logits]
    shares = [weight / sum(weights) for weight in weights]
    if min_p is not None:
        shares = [share if share >= min_p * max(shares) else 0.0 for share in shares]
    kept, held = set(), 0.0
    for rank, token in enumerate(sorted(range(len(shares)), key=lambda token: -shares[token])):
        if top_k is not None and rank >= top_k:
            break
        if top_p is not None and held >= top_p * sum(shares):
            break
        kept.add(token)
        held += shares[token]
    return [share / held if token in kept else 0.0 for token, share in enumerate(shares)]


@given(
    LOGITS,
    st.sampled_from([0.3, 0.9, 1.0, 2.5]),
    st.one_of(st.none(), st.integers(1, 14)),
    st.one_of(st.none(), st.sampled_from([1e-6, 0.313, 0.777, 0.951])),
    st.one_of(st.none(), st.sampled_from([1e-6, 0.0713, 0.513])),
)
@settings(deadline=None, max_examples=300)
def test_probabilities_are_those_of_the_definitions(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> None:
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    found = Sampling(**options).probabilities(np.array(logits))
    assert found.tolist() == pytest.approx(by_hand(logits, **options), abs=1e-12)


def test_rows_do_not_mix() -> None:
    logits = np.array([[[2.0, 1.0, -np.inf]], [[0.0, 5.0, 4.9]]])
    sampling = Sampling(top_p=0.6)
    both = sampling.probabilities(logits)
    assert both.shape == (2, 1, 3)
    assert np.array_equal(both[1], sampling.probabilities(logits[1]))
    assert both[0, 0].tolist() == [1, 0, 0]


def test_temperature_0_takes_the_likeliest_of_those_left() -> None:
    logits = np.array([-np.inf, 1.0, 3.0, 2.0])
    assert Sampling(temperature=0).probabilities(logits).tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 5e-324])
def test_a_vanishing_temperature_is_as_0(temperature: float) -> None:
    logits = np.array([-np.inf, -4.0, 300.0, 299.0])
    assert Sampling(temperature=temperature).probabilities(logits).tolist() == pytest.approx([0, 0, 1, 0])


def test_a_huge_temperature_makes_all_that_is_left_alike() -> None:
    logits = np.array([-np.inf, -40.0, 3.0])
    assert Sampling(temperature=1e300).probabilities(logits).tolist() == pytest.approx([0, 0.5, 0.5])


def test_top_p_that_is_reached_exactly_takes_no_token_more() -> None:
    logits = np.log([0.5, 0.25, 0.25])
    assert Sampling(top_p=0.5).probabilities(logits).tolist() == [1, 0, 0]


def test_top_p_is_of_what_min_p_left() -> None:
    """Of 0.5, 0.3 and 0.2, the first is 62 % of what is left without the last."""
    logits = np.log([0.5, 0.3, 0.2])
    found = Sampling(min_p=0.5, top_p=0.6).probabilities(logits)
    assert found.tolist() == [1, 0, 0]


def test_min_p_0_keeps_all() -> None:
    logits = np.array([0.0, -30.0, 2.0])
    assert np.array_equal(Sampling(min_p=0).probabilities(logits), Sampling().probabilities(logits))


def test_top_p_1_keeps_all() -> None:
    logits = np.array([0.0, -3.0, 2.0])
    assert Sampling(top_p=1).probabilities(logits) == pytest.approx(Sampling().probabilities(logits))


def test_min_p_1_keeps_ties_for_the_first_place() -> None:
    assert Sampling(min_p=1).probabilities(np.array([1.0, 2.0, 2.0])).tolist() == pytest.approx([0, 0.5, 0.5])


@pytest.mark.parametrize("top_k", [3, 10**30])
def test_top_k_beyond_the_vocabulary_filters_nothing(top_k: int) -> None:
    logits = np.array([1.0, 2.0, 0.0])
    assert np.array_equal(Sampling(top_k=top_k).probabilities(logits), Sampling().probabilities(logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": math.nan}, "--temperature is nan. Give a number from 0 up, such as 1.0."),
        ({"temperature": math.inf}, "--temperature is inf."),
        ({"temperature": -0.1}, "--temperature is -0.1."),
        ({"top_k": 0}, "--top-k is 0. Give a whole number from 1 up."),
        ({"top_k": -3}, "--top-k is -3."),
        ({"top_p": 0.0}, "--top-p is 0.0. Give a number above 0 and up to 1."),
        ({"top_p": 1.01}, "--top-p is 1.01."),
        ({"top_p": math.nan}, "--top-p is nan."),
        ({"min_p": -1.0}, "--min-p is -1.0. Give a number from 0 to 1."),
        ({"min_p": math.inf}, "--min-p is inf."),
        ({"min_p": math.nan}, "--min-p is nan."),
    ],
)
def test_values_out_of_range_are_refused_with_a_remedy(options: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        Sampling(**options)
    assert message in str(refusal.value)
    assert refusal.value.exit_code == 2
