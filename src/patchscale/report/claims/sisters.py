"""How each promise of "Fewer Tokens, Greater Scaling" and "Scaling Capability in Token Space" is answered."""

from __future__ import annotations

from dataclasses import replace

from patchscale.report.claims import counted
from patchscale.report.claims.answer import Counted, FromTable, HeldByTest, Row, TooLarge, Verdict
from patchscale.report.claims.counted import paper_hours, recipe
from patchscale.report.claims.evidence import Evidence
from patchscale.report.claims.judges import trend

MAE = "needs ImageNet, MAE weights of five sizes and a GPU cluster"
WEIGHTS = "needs released weights of billions of parameters; the adapter runs with random weights in "


def kept_trend(evidence: Evidence) -> tuple[str, Verdict]:
    """The loss falls with the kept tokens, reducer by reducer and model by model."""
    table = evidence.table.loc[evidence.table["reducer"] != "none", :]
    part = replace(evidence, table=table)
    return trend(by="kept_tokens", rising=True)(part)


def fewer_for_larger(evidence: Evidence) -> tuple[str, Verdict]:
    """Larger models need fewer tokens: an interaction of model size and kept tokens, as laws.json tests it."""
    tests = evidence.laws.get("kept_tokens", {}).get("interaction", [])
    verdicts: list[Verdict] = []
    for test in tests:
        growing = test["exponent"]["value"] > 0
        seen = test["verdict"] == "interaction"
        verdicts.append("reproduced" if seen and growing else "not reproduced" if seen else "inconclusive")
    text = "; ".join(f"{test['reducer']}: {test['verdict']}, c = {test['exponent']['value']:.3g}" for test in tests)
    agreed = len(set(verdicts)) == 1
    return f"term B N^-c / K^b: {text or 'not testable'}", verdicts[0] if agreed else "inconclusive"


def vision_trend(evidence: Evidence) -> tuple[str, Verdict]:
    """The loss of answers falls with vision tokens, protocol by protocol."""
    return trend(by="task.vision_tokens", rising=True)(evidence)


vision = FromTable("vlm_tokens", vision_trend)

ROWS: dict[str, Row] = {
    "vb-theory": HeldByTest(
        "visual_bases; patchscale tokens",
        "patchscale tokens prints how many tokens span an image, its rank and its shortest code",
        "tests/tokens/test_complexity.py::test_low_rank_tokens_have_their_rank",
    ),
    "vb-ortho": HeldByTest(
        "visual_bases; patchscale tokens",
        "reducer filtering: its loss lowers the cosine between slots of real images; the released one has none",
        "tests/tokens/test_reducers.py::test_orthogonality_loss_lowers_the_cosine_between_slots_of_real_images",
    ),
    "vb-models": Counted("visual_bases", counted.slot_models),
    "vb-fig-law": TooLarge(
        "visual_bases", MAE, paper_hours("visual_bases", reducer="filtering_released", kept_tokens=96)
    ),
    "vb-curve": FromTable("visual_bases", kept_trend),
    "vb-mdl": Counted("visual_bases", counted.minimum, scale="published", evidence="patchscale.laws.minimum_tokens"),
    "vb-pep": FromTable("visual_bases", fewer_for_larger),
    "vb-fig-pep": TooLarge("visual_bases", MAE, paper_hours("visual_bases", reducer="filtering_released")),
    "vb-frontier": FromTable("visual_bases", fewer_for_larger),
    "vb-train": HeldByTest(
        "patchscale train",
        "patchscale train --recipe visual_bases_finetune stands for the published command, flag by flag",
        "tests/training/test_recipes.py::test_the_published_visual_bases_command_is_printed",
    ),
    "vb-recipe": Counted(
        "patchscale train",
        recipe(
            "visual_bases_finetune",
            {
                "recipe.batch_size": 8 * 1024,
                "recipe.epochs": 100,
                "base_learning_rate": 1.5e-4,
                "recipe.layer_decay": 0.65,
                "recipe.weight_decay": 0.05,
                "model.drop_path": 0.1,
                "recipe.augment.random_erasing": 0.25,
                "recipe.mixing.mixup_alpha": 0.8,
                "recipe.mixing.cutmix_alpha": 1.0,
            },
        ),
        scale="configuration",
        evidence="patchscale.training.recipes",
    ),
    "vb-finetune": HeldByTest(
        "patchscale train",
        "weights of a masked autoencoder load into the slot models",
        "tests/models/test_lct_vit.py::test_mae_weights_load",
    ),
    "vb-paperscope": TooLarge(
        "visual_bases",
        "the 17,365 pages would have to be downloaded; patchscale pages builds such a set from any PDFs "
        "(tests/data/test_pages.py)",
    ),
    "vb-paperscope-get": TooLarge(
        "patchscale study run visual_bases --data", "the public hub cannot be reached from here"
    ),
    "vlm-theory": HeldByTest(
        "vlm_tokens",
        "sequences of known cosines lie as far apart as the bound says",
        "tests/laws/test_vlm_theory.py::test_distance_of_gaussian_sequences_is_that_of_the_theory",
    ),
    "vlm-regimes": Counted(
        "vlm_tokens; patchscale fit", counted.vlm_curvature, "published", "laws/tables/vlm_token_curves.json"
    ),
    "vlm-form": Counted("patchscale fit", counted.vlm_curvature, "published", "laws/tables/vlm_token_curves.json"),
    "vlm-corr": HeldByTest(
        "vlm_tokens",
        "the exponent is a function of three cosines of token representations",
        "tests/laws/test_vlm_theory.py::test_closed_form_is_c_over_n_to_alpha",
    ),
    "vlm-validate": Counted(
        "vlm_tokens; patchscale fit", counted.vlm_fits, "published", "laws/tables/vlm_token_curves.json"
    ),
    "vlm-guidance": HeldByTest(
        "vlm_tokens; patchscale plan",
        "prefill FLOPs at each number of vision tokens, in parts that fewer tokens save and do not",
        "tests/tasks/test_captioning_real.py::test_prefill_flops_are_those_that_torch_counts",
    ),
    "vlm-install": Counted("patchscale doctor", counted.python_versions, "configuration", "pyproject.toml"),
    "vlm-demo": vision,
    "vlm-experiment": vision,
    "vlm-vlmeval": TooLarge(
        "vlm_tokens", "needs VLMEvalKit, its benchmarks and released weights; tasks/captioning/vlmevalkit.py says how"
    ),
    "vlm-llava": TooLarge("vlm_tokens", WEIGHTS + "tests/tasks/test_captioning_real.py"),
    "vlm-multiquery": HeldByTest(
        "vlm_tokens",
        "learned queries fuse image and question into n vision tokens; fewer are the first of more",
        "tests/tasks/test_captioning.py::test_fewer_queries_are_the_first_of_more",
    ),
    "vlm-queryadapt": HeldByTest(
        "vlm_tokens",
        "the question inside or outside the fusion (vqq, vq)",
        "tests/tasks/test_captioning.py::test_the_question_reaches_the_vision_tokens_only_inside",
    ),
    "vlm-clipfusion": HeldByTest(
        "vlm_tokens",
        "image rows and question fused before the language model, of any size and number of views",
        "tests/tasks/test_captioning.py::test_views_and_merge_have_the_published_number_of_rows",
    ),
    "vlm-phi3": HeldByTest(
        "vlm_tokens",
        "any causal language model of transformers plugs in as backbone; Phi-3's own weights were not run",
        "tests/tasks/test_captioning_language.py::test_a_frozen_backbone_is_trained_around",
    ),
    "vlm-visionzip": HeldByTest(
        "vlm_tokens",
        "reducer visionzip keeps by the class token's attention, merges the rest",
        "tests/tasks/test_captioning_real.py::test_class_token_attention_is_what_llava_keeps_by",
    ),
    "vlm-bound": HeldByTest(
        "patchscale study report",
        "python -m patchscale.report.token_theory draws the bound",
        "tests/report/test_token_theory.py::test_lines_are_the_functions",
    ),
    "vlm-flops": HeldByTest(
        "patchscale cost",
        "FLOPs and parameters of the whole model equal torch's count",
        "tests/tasks/test_captioning_cost.py::test_counted_flops_are_those_of_torch",
    ),
    "vlm-time": HeldByTest(
        "patchscale cost",
        "prefill and a decoded word are timed part by part",
        "tests/tasks/test_captioning_real.py::test_times_are_measured_in_parts",
    ),
    "vlm-ckpt": HeldByTest(
        "patchscale convert",
        "published checkpoints are rewritten as safetensors",
        "tests/models/test_checkpoints.py::test_convert_deit_and_mae",
    ),
    "vlm-backbone": HeldByTest(
        "vlm_tokens",
        "a trial starts from the whole model of another",
        "tests/tasks/test_captioning_study.py::test_a_trial_starts_from_the_whole_model_of_another",
    ),
    "vlm-data": HeldByTest(
        "patchscale study run vlm_tokens --data",
        "COCO captions and own JSON lines are read",
        "tests/tasks/test_captioning.py::test_real_captions",
    ),
}
