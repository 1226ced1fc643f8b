"""Figure 2: what UperNet adds to one linear layer, patch size by patch size. Writes gap.csv and figures/gap.svg.

python results/camvid/gap.py
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from patchscale.laws import paired_differences

HERE = Path(__file__).parent
SCORES = {"miou": "mean IoU", "test_loss": "test loss of a pixel, nats"}

table = pd.read_csv(HERE / "results.csv")
table["decoder"] = table["task.decoder"].map({"linear": 1, "upernet": 2})
figure, panels = plt.subplots(1, 2, figsize=(6.75, 2.4), layout="constrained")
rows = []
for panel, (score, name) in zip(panels, SCORES.items(), strict=True):
    for gap in paired_differences(table, "decoder", "patch_size", y=score, lower_is_better=score == "test_loss"):
        patch_size = int(gap["group"]["patch_size"])
        rows.append({"score": score, "patch_size": patch_size, **{k: gap[k] for k in ("difference", "low", "high")}})
    for _, seed in table.groupby("random_seed"):
        each = seed.pivot(index="patch_size", columns="decoder", values=score)
        panel.plot(each.index, each[2] - each[1], "o", color="#2a6f97", markerfacecolor="none", markersize=4)
    means = {row["patch_size"]: row["difference"] for row in rows if row["score"] == score}
    panel.plot(means.keys(), means.values(), color="#2a6f97")
    panel.axhline(0, color="grey", linewidth=0.8)
    panel.set_xscale("log", base=2)
    panel.set_xticks(list(means), [str(size) for size in means])
    panel.minorticks_off()
    panel.invert_xaxis()
    panel.set(xlabel="patch size", ylabel=f"UperNet minus linear:\n{name}")
figure.savefig(HERE / "figures" / "gap.svg", metadata={"Date": None})
pd.DataFrame(rows).to_csv(HERE / "gap.csv", index=False)
