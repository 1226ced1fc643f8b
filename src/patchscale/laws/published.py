"""Published numbers as tables: facts to fit and to print beside our own, never mixed with measurements."""

from __future__ import annotations

import json
from importlib import resources

import pandas as pd

from patchscale.errors import InputError

_FILES = {"patchification": "patchification.csv", "claims": "claims.csv", "visual_bases": "visual_bases.csv"}
VLM_VARIANTS = ("vqq", "vq_ft", "vq_noft_approx")


def published(table: int | str | None = None) -> pd.DataFrame:
    """A table of published numbers.

    Args:
        table: 1 to 7 for a table of "Scaling Laws in Patchification" (2502.03738); "patchification" for all seven;
            "claims" for every claim of the four papers; "visual_bases" for the figures of "Fewer Tokens, Greater
            Scaling" (2511.19515), or one of them as "T1", "T2", "T3"; "vlm" for the 54 score-versus-vision-token curves
            of "Scaling Capability in Token Space" (2412.18387), "vlm_fits" for their 36 published power laws; None is
            "patchification".

    Returns:
        Long form, one number a row. Claims keep their text columns. "vlm" has columns variant, metric, vision_tokens,
        score.

    Raises:
        InputError: no such table.
    """
    key = "patchification" if table is None else str(table)
    if key in _FILES:
        return _read_csv(_FILES[key])
    if key in [str(number) for number in range(1, 8)]:
        rows = _read_csv(_FILES["patchification"])
        return rows.loc[rows["table"] == int(key)].reset_index(drop=True)
    if key in ("T1", "T2", "T3"):
        rows = _read_csv(_FILES["visual_bases"])
        return rows.loc[rows["table"] == key].reset_index(drop=True)
    if key == "vlm":
        return _vlm_curves()
    if key == "vlm_fits":
        return _vlm_fits()
    raise InputError(
        f"no published table {table!r}; there are 1 to 7, patchification, claims, visual_bases, T1 to T3, vlm, vlm_fits"
    )


def _read_csv(name: str) -> pd.DataFrame:
    with resources.files("patchscale.laws").joinpath("tables", name).open(encoding="utf-8") as file:
        return pd.read_csv(file)


def _vlm() -> dict:
    text = resources.files("patchscale.laws").joinpath("tables", "vlm_token_curves.json").read_text(encoding="utf-8")
    return json.loads(text)


def _vlm_curves() -> pd.DataFrame:
    content = _vlm()
    rows = [
        (variant, metric, count, score)
        for variant in VLM_VARIANTS
        for metric, scores in content[variant].items()
        for count, score in zip(content["n_l"], scores, strict=True)
    ]
    return pd.DataFrame(rows, columns=["variant", "metric", "vision_tokens", "score"])


def _vlm_fits() -> pd.DataFrame:
    fits = _vlm()["powerlaw_fit_loglog_ols"]
    rows = [(v, metric, fit["c"], fit["alpha"]) for v, metrics in fits.items() for metric, fit in metrics.items()]
    return pd.DataFrame(rows, columns=["variant", "metric", "c", "alpha"])
