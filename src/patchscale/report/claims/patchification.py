"""How each promise of "Scaling Laws in Patchification" is answered, row by row of `laws/tables/claims.csv`."""

from __future__ import annotations

from patchscale.report.claims import ablations, counted
from patchscale.report.claims.answer import AllOf, Counted, FromTable, HeldByTest, Row, TooLarge
from patchscale.report.claims.counted import paper_hours, recipe
from patchscale.report.claims.judges import difference_of_gaps, only, refines, trend

SIZES = "patchification with two sizes of a family (--set axes.model=[...])"
HARDWARE = "needs ImageNet and a GPU cluster"
CONFIGURED = {"scale": "configuration", "evidence": "patchscale.training.recipes"}

home, detection = FromTable("patchification", trend()), FromTable("detection", trend("mask_loss"))
segmentation = FromTable("segmentation_decoder", only("task.decoder", "linear", trend("test_loss")))
decoder_gain = difference_of_gaps("miou", ablations.decoder_gaps, "UperNet's lead at the finest and the coarsest patch")

ROWS: dict[str, Row] = {
    # tables
    "p-tab1": FromTable("patchification", refines("top1", lower=False)),
    "p-tab2": FromTable("segmentation_decoder", only("task.decoder", "linear", refines("miou", lower=False))),
    "p-tab3": FromTable("detection", refines("mask_ap", lower=False)),
    "p-tab4": FromTable("patchification", ablations.synergy, ablations.several_sizes, SIZES),
    "p-tab5": FromTable("sequence_length", ablations.extending),
    "p-tab6": Counted("overhead", counted.overhead),
    "p-tab7": Counted("patchscale cost", counted.configurations),
    "p-tab8": Counted(
        "patchification",
        counted.both(
            recipe("adventurer_pretrain", {"base_learning_rate": 5e-4, "recipe.epochs": 300}),
            recipe("adventurer_pretrain", {"base_learning_rate": 2e-4, "recipe.epochs": 200}, "large"),
        ),
        **CONFIGURED,
    ),
    "p-tab9": Counted(
        "patchification",
        counted.both(
            recipe("adventurer_finetune", {"base_learning_rate": 1e-5}),
            recipe("adventurer_finetune", {"base_learning_rate": 2e-5}, "large"),
        ),
        **CONFIGURED,
    ),
    "p-tab10": Counted(
        "patchification",
        counted.both(
            recipe("adventurer_intermediate", {"base_learning_rate": 5e-4}),
            recipe("adventurer_intermediate", {"base_learning_rate": 8e-4}, "large"),
        ),
        **CONFIGURED,
    ),
    # figures
    "p-fig1a": FromTable("patchification", trend(family="deit")),
    "p-fig1b": FromTable("patchification", trend(family="adventurer")),
    "p-fig1c": TooLarge(
        "patchification", HARDWARE, paper_hours("patchification", model="adventurer_base_patch16", input_size=224)
    ),
    "p-fig1d": segmentation,
    "p-fig1e": FromTable("detection", trend("detection_loss")),
    "p-fig1f": detection,
    "p-fig1g": FromTable("patchification", trend(family="deit")),
    "p-fig1h": TooLarge(
        "patchification", HARDWARE, paper_hours("patchification", model="adventurer_large_patch16", input_size=128)
    ),
    "p-fig1i": TooLarge(
        "patchification", HARDWARE, paper_hours("patchification", model="adventurer_tiny_patch16", input_size=224)
    ),
    "p-fig2": FromTable("segmentation_decoder", decoder_gain),
    "p-fig3a": FromTable("parameters_vs_patches", ablations.equal_compute("adventurer")),
    "p-fig3b": FromTable("parameters_vs_patches", ablations.equal_compute("deit")),
    "p-fig4": FromTable("input_size", ablations.enlarging),
    # claims
    "p-claim-monotone": FromTable("patchification", refines("top1", lower=False)),
    "p-claim-smoothloss": FromTable("patchification", refines()),
    "p-claim-tasks": AllOf((home, segmentation, FromTable("detection", trend("detection_loss")), detection)),
    "p-claim-inputs": AllOf((home, segmentation, detection)),
    "p-claim-archs": home,
    "p-claim-50176": TooLarge(
        "patchification", "training end to end needs a GPU", paper_hours("patchification", input_size=224, patch_size=1)
    ),
    "p-claim-846": TooLarge(
        "patchification", HARDWARE, paper_hours("patchification", model="adventurer_base_patch16", input_size=224)
    ),
    "p-claim-deit8": TooLarge("patchification", "needs ImageNet and DeiT-Base at 224, which no preset trains"),
    "p-claim-storage": Counted("patchscale tokens", counted.storage, evidence="arithmetic"),
    "p-claim-compromise": Counted("patchification; patchscale plan", counted.compromise),
    "p-claim-nodecoder": FromTable("segmentation_decoder", ablations.without_decoder),
    "p-claim-decodergap": FromTable("segmentation_decoder", ablations.decoder_advantage),
    "p-claim-plain": HeldByTest(
        "patchification",
        "the model equals the released one's numbers row by row: length and width stay, the class token is read",
        "tests/models/test_adventurer.py::test_the_numeric_fixture_agrees",
    ),
    "p-claim-linear": Counted("overhead; patchscale cost", counted.linear_growth),
    "p-claim-quadratic": Counted("overhead; patchscale cost", counted.quadratic_growth),
    "p-claim-256gpu": Counted("patchscale plan", counted.on_256),
    "p-claim-samepatch": HeldByTest(
        "segmentation; detection",
        "dense tasks start from a classifier of the same patch size",
        "tests/tasks/test_detection_task.py::test_encoders_start_from_classification_at_the_same_patch_size",
    ),
    "p-claim-linearhead": FromTable("segmentation_decoder", decoder_gain),
    "p-recipe-deit": Counted(
        "patchification",
        recipe(
            "deit",
            {"recipe.epochs": 300, "recipe.batch_size": 1024, "learning_rate": 1e-3, "recipe.weight_decay": 0.05},
        ),
        **CONFIGURED,
    ),
    "p-recipe-seg": Counted(
        "segmentation",
        recipe(
            "segmentation",
            {"learning_rate": 5e-5, "recipe.weight_decay": 0.01, "recipe.batch_size": 16, "recipe.steps": 160_000},
        ),
        **CONFIGURED,
    ),
    "p-recipe-det": Counted(
        "detection",
        recipe("detection", {"learning_rate": 1e-4, "recipe.weight_decay": 0.05, "recipe.epochs": 12}),
        **CONFIGURED,
    ),
    "p-data-benchmarks": Counted(
        "patchification; segmentation; detection", counted.benchmarks, scale="none", evidence="patchscale.data"
    ),
    "p-claim-holistic": FromTable("patchification", trend("top1", lower=False)),
    "p-claim-detgain": FromTable("detection", trend("box_ap", lower=False)),
    "p-claim-paramplateau": TooLarge(
        "parameters_vs_patches",
        HARDWARE,
        paper_hours("parameters_vs_patches", model=("adventurer_large_patch16", "adventurer_huge_patch16")),
    ),
    "p-claim-tradeoff": AllOf(
        tuple(FromTable("parameters_vs_patches", ablations.equal_compute(family)) for family in ("deit", "adventurer"))
    ),
    "p-claim-norecipe": FromTable("recipe_transfer", ablations.one_recipe),
    "p-claim-vitgain": FromTable(
        "patchification",
        difference_of_gaps(
            "test_loss",
            ablations.family_gains,
            "gain from the coarsest to the finest patch both have, DeiT and Adventurer",
        ),
        lambda table: not ablations.several_sizes(table),
    ),
    "p-claim-b8l16": TooLarge(
        "parameters_vs_patches",
        HARDWARE,
        paper_hours("parameters_vs_patches", model=("deit_base_patch16", "deit_large_patch16"), patch_size=(8, 16)),
    ),
    "p-claim-collapse": TooLarge(
        "parameters_vs_patches",
        HARDWARE,
        paper_hours("parameters_vs_patches", model=("deit_large_patch16", "deit_huge_patch16")),
    ),
    "p-claim-448": FromTable("image_or_patch", ablations.larger_image),
    "p-claim-upsample": FromTable("input_size", ablations.enlarging),
    "p-claim-overparam": FromTable("input_size", ablations.overgrown),
    "p-claim-synergy": FromTable("patchification", ablations.synergy, ablations.several_sizes, SIZES),
    "p-claim-extend": FromTable("sequence_length", ablations.extending),
    "p-claim-infogain": FromTable("sequence_length", ablations.information),
    "p-claim-memory": Counted("overhead; patchscale cost", counted.memory_growth),
    "p-claim-gpuhours": Counted("overhead; patchscale cost", counted.cheaper_family),
    "p-claim-protocol": Counted("overhead", counted.protocol),
    "p-recipe-stages": Counted("patchification", counted.stages, **CONFIGURED),
    "p-claim-multistage": Counted("patchification; patchscale plan", counted.late_epochs, **CONFIGURED),
    "p-model-huge": Counted("patchscale cost", counted.huge),
    "p-cap-code": TooLarge(
        "patchscale convert; patchscale evaluate",
        "released weights and ImageNet are not here; their layout is read by "
        "tests/models/test_checkpoints.py::test_convert_a_published_adventurer",
    ),
}
