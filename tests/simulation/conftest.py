"""Which seeds the simulations run with."""

import pytest


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize tests that take a `seed_of_storm`: `--seed K` runs that one, `--seeds N` the first N."""
    if "seed_of_storm" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--seed")
        seeds = range(metafunc.config.getoption("--seeds")) if chosen is None else [int(chosen)]
        metafunc.parametrize("seed_of_storm", seeds, ids=[f"seed {seed}" for seed in seeds])
