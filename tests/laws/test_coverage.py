"""The figure of docs/laws.md: how often 90 % intervals hold the truth (simulated power law with a floor)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from patchscale import laws

TRUTH = {"floor": 0.8, "scale": 2.0, "exponent": 0.5}


@pytest.mark.slow
def test_ninety_percent_intervals_cover_ninety_percent():
    generator = np.random.default_rng(2024)
    x = np.repeat([4.0, 16, 64, 256, 1024], 3)
    hits = {**dict.fromkeys(TRUTH, 0), "curve": 0, "next run": 0}
    bootstrap_hits = dict.fromkeys(TRUTH, 0)
    cases = 500
    for _ in range(cases):
        loss = (0.8 + 2 * x**-0.5) * np.exp(0.02 * generator.normal(size=15))
        (law,) = laws.fit(
            pd.DataFrame({"tokens": x, "test_loss": loss}), held_out=False, bootstrap=200, starts=64, polish=4
        )
        for name, truth in TRUTH.items():
            param = law.params[name]
            hits[name] += param.low <= truth <= param.high
            bootstrap_hits[name] += param.bootstrap_low <= truth <= param.bootstrap_high
        low, high = law.band([4096.0])
        hits["curve"] += bool(low[0] <= 0.8 + 2 * 4096**-0.5 <= high[0])
        low, high = law.band([4096.0], "prediction")
        run = (0.8 + 2 * 4096**-0.5) * np.exp(0.02 * generator.normal())
        hits["next run"] += bool(low[0] <= run <= high[0])
    shares = {name: count / cases for name, count in hits.items()}
    print("profile", shares, "bootstrap", {name: count / cases for name, count in bootstrap_hits.items()})
    assert all(0.85 <= share <= 0.95 for share in shares.values()), shares
