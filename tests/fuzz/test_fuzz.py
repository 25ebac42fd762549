"""Random compositions and gradients against the laws: a short run of `make fuzz`."""

import compositions
import examine
import pytest
from hypothesis import assume, given, settings, strategies as st


@settings(max_examples=4)
@given(
    st.integers(len(compositions.LEAVES), 10**6),
    st.sampled_from(sorted(examine.DTYPES)),
    st.sampled_from(sorted(examine.SIZES)),
)
def test_a_random_composition_holds_the_laws(seed, kind, size):
    row = compositions.composed(seed)
    assume(not compositions.refused(row))
    examine.examine(row, kind, seed, {"one": 1.0, size: examine.SIZES[size]}, runs=1)


def test_the_fuzzer_finds_a_law_that_is_broken():
    row = compositions.LEAVES[0]
    with pytest.raises(examine.Law, match="no NaN, for dtypes 'float32' and size 'nan'"):
        examine.examine(row, "float32", 0, {"nan": float("nan")}, runs=1)
