"""`plan`: a device, a budget and a data set in; ranked configurations with predictions, and what to run first, out.

Each configuration takes its published schedule (or the table's), shortened to what the budget pays for, never below a
tenth. Ranking is by the upper end of the predicted interval, so what is poorly known ranks below what is known; with a
target, by device-hours among those that reach it more likely than not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from patchscale.cost.candidates import draft_published, draft_table
from patchscale.cost.configuration import Configuration, Draft, settle
from patchscale.cost.devices import GIB, Device, device_of
from patchscale.cost.outlook import SCHEDULE, Outlook, Question, published_outlook
from patchscale.cost.placement import usable_memory
from patchscale.cost.plan_result import Lesson, Plan
from patchscale.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LEAST_SHARE = 0.1
"""Shortest schedule worth planning, as a share of the full one."""
LESSON_BUDGET = 0.25
"""Largest part of the budget that a first trial may take."""
LESSON_GAIN = 0.1
"""A first trial must shrink the best plan's interval by at least this much, relatively, to be worth naming alone."""
LESSON_SHARES = (LEAST_SHARE, 0.3, 1.0)


def plan(
    device: str | Device,
    *,
    data_size: int,
    gpus: int = 1,
    budget_hours: float | None = None,
    budget_money: float | None = None,
    budget_flops: float | None = None,
    price_per_hour: float | None = None,
    memory: float | None = None,
    target: float | None = None,
    table: pd.DataFrame | Path | str | None = None,
    metric: str | None = None,
    models: Sequence[str] | None = None,
    inputs: Sequence[int] | None = None,
    patches: Sequence[int] | None = None,
    num_classes: int = 1000,
    top: int = 10,
) -> Plan:
    """Ranks what can be trained.

    Args:
        device: a name of `DEVICES`, or a calibrated device.
        data_size: training images.
        gpus: devices.
        budget_hours: wall-clock hours on all devices together; give exactly one budget.
        budget_money: in the currency of `price_per_hour`.
        budget_flops: model FLOPs (three times the forward passes).
        price_per_hour: of one device; needed for `budget_money`, and fills the money column otherwise.
        memory: GiB of one device, if not the data sheet's.
        target: top-1 accuracy between 0 and 1, or a test loss if the law is of the test loss.
        table: a study's results.csv or DataFrame; the published law if not given.
        metric: `test_loss` (default with a table) or `top1` (the published law's, and the default without).
        models: registered names; the published sizes, and ours for CPUs on a CPU, if not given.
        inputs: input sizes in pixels; 64, 128 and 224 if not given (with a table: the table's).
        patches: patch sizes; 16, 8, 4, 2 and 1 if not given (with a table: also its own and half its finest).
        num_classes: of the data.
        top: lines to return.

    Raises:
        InputError: no budget or several, a value out of range, an unknown name, or a table no law can be fitted to.
    """
    chosen = device_of(device)
    kind, budget = _one_budget(budget_hours, budget_money, budget_flops, price_per_hour)
    _check(
        data_size=data_size, gpus=gpus, memory=memory, price_per_hour=price_per_hour, num_classes=num_classes, top=top
    )
    limit = usable_memory(chosen, None if memory is None else memory * GIB)
    options = {"gpus": gpus, "limit": limit, "images": data_size, "num_classes": num_classes, "patches": patches}
    if table is None:
        if metric not in (None, "top1"):
            raise InputError(f"metric {metric!r}: the published law is of top1; give a table to plan by test_loss")
        outlook, notes = published_outlook(data_size)
        drafts: Iterable[Draft] = draft_published(chosen, models=models, inputs=inputs, **options)
        other_data = bool(notes)
        source = "published law: tables 1 and 4 of 2502.03738, ImageNet-1k"
    else:
        from patchscale.cost.table_law import TableLaw, read_table

        law = TableLaw(read_table(table), metric or "test_loss")
        outlook, notes = Outlook(law, laboratory=0.0), [f"left out: {text}" for text in law.left_out]
        drafts = draft_table(chosen, law, models=models, inputs=inputs, **options)
        other_data = False
        source = f"the table's own laws of {law.quantity}"
    aim = _aim(target, outlook.law.quantity)
    if chosen.time_factor > 1.2:
        notes.append(f"hours of {chosen.name} within a factor of {chosen.time_factor:g}: {chosen.source}")
    scale = {"hours": 1.0, "money": gpus * (price_per_hour or 0.0), "flops": 1.0}[kind]

    def needed(draft: Draft) -> float:
        return draft.flops if kind == "flops" else draft.hours * scale

    def settled(draft: Draft) -> Configuration:
        need = needed(draft)
        share = min(1.0, max(LEAST_SHARE, budget / need))
        over = max(share * need / budget, draft.memory_bytes / limit if not draft.fits_memory and limit else 0.0)
        fits = draft.fits_memory and share * need <= budget * (1 + 1e-9)
        belief = outlook.predict(Question(draft.cost, share, draft.start))
        outside = [*_outside(draft, outlook, share), *(["the law is of other images"] if other_data else [])]
        return settle(
            draft, share, belief, device=chosen, gpus=gpus, price=price_per_hour, target=aim, outside=outside,
            fits=fits, over=over if limit else math.inf,
        )  # fmt: skip

    pairs = [(draft, settled(draft)) for draft in drafts]
    if not pairs:
        raise InputError("no configuration to plan: no patch size divides any input size; give other inputs or patches")
    fitting = [pair for pair in pairs if pair[1].fits]
    ranked = sorted(fitting, key=lambda pair: _rank(pair[1], aim)) or sorted(pairs, key=lambda pair: pair[1].over)
    ranked = _best_of_each(ranked)[: top if fitting else 3]
    if not fitting:
        notes.insert(0, _nearest_note(ranked[0][1], kind, budget, limit))
    elif aim is not None and (ranked[0][1].target_probability or 0) < 0.5:
        notes.append(f"no configuration within the budget is likelier than not to reach {target:g}")
    lesson = _first_lesson(
        ranked[0][0], ranked[0][1], [d for d, _ in fitting], outlook, budget, needed, gpus, scale, kind
    )
    return Plan(
        device=chosen,
        gpus=gpus,
        budget={kind: budget},
        memory_bytes=limit,
        data_size=data_size,
        target=target,
        source=source,
        outlook=outlook.to_dict(),
        fits=bool(fitting),
        configurations=tuple(configuration for _, configuration in ranked),
        learn_first=lesson,
        notes=tuple(notes),
    )


def _one_budget(
    hours: float | None, money: float | None, flops: float | None, price: float | None
) -> tuple[str, float]:
    given = {name: value for name, value in (("hours", hours), ("money", money), ("flops", flops)) if value is not None}
    if len(given) != 1:
        raise InputError(f"{len(given)} budgets given; give one of budget_hours, budget_money, budget_flops")
    kind, value = next(iter(given.items()))
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"budget_{kind} {value} is not positive; give what may be spent")
    if kind == "money" and price is None:
        raise InputError("budget_money needs price_per_hour: what one device costs an hour")
    return kind, float(value)


def _check(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} {value} is not positive; give a number above 0")


def _aim(target: float | None, quantity: str) -> float | None:
    """The target as a bound of the law's quantity."""
    if target is None:
        return None
    if quantity == "top1_error":
        if not 0 < target < 1:
            raise InputError(f"target {target} is not an accuracy between 0 and 1, such as 0.84")
        return 1 - target
    if target <= 0:
        raise InputError(f"target {target} is not a test loss above 0")
    return target


def _outside(draft: Draft, outlook: Outlook, share: float) -> list[str]:
    found = outlook.law.limits(draft.cost)
    if share < 1:
        found.append(f"schedule cut to {share:.0%}: scaled by (1/share)^{SCHEDULE}, from ViT-S/16's 90 and 300 epochs")
    if draft.start == "coarser":
        found.append("start from a coarser patch assumed as good as the published first stages")
    return found


def _rank(line: Configuration, aim: float | None) -> tuple:
    if aim is None or line.target_probability is None:
        return (line.high, line.device_hours)
    return (0, line.device_hours) if line.target_probability >= 0.5 else (1, -line.target_probability)


def _best_of_each(pairs: list[tuple[Draft, Configuration]]) -> list[tuple[Draft, Configuration]]:
    """The better start of each model, input and patch size."""
    kept: dict[tuple, tuple[Draft, Configuration]] = {}
    for pair in pairs:
        kept.setdefault((pair[1].model, pair[1].input_size, pair[1].patch_size), pair)
    return list(kept.values())


def _nearest_note(line: Configuration, kind: str, budget: float, limit: float) -> str:
    if line.memory_bytes > limit:
        return (
            f"nothing fits in {limit / GIB:.3g} GiB of usable memory; the nearest needs "
            f"{line.memory_bytes / GIB:.3g} GiB with one image a pass and recompute on"
        )
    return (
        f"no configuration fits a budget of {budget:g} {kind}, even at {LEAST_SHARE:.0%} of its schedule; "
        f"the nearest needs {line.over:.3g} times as much"
    )


def _first_lesson(
    best: Draft, line: Configuration, drafts: list[Draft], outlook: Outlook, budget: float, needed, gpus: int,
    scale: float, kind: str,
) -> Lesson | None:  # fmt: skip
    """The trial within a quarter of the budget that shrinks the best plan's interval most per device-hour."""
    aim = Question(best.cost, line.share, line.start)
    before = outlook.predict(aim)
    lessons = []
    for draft in drafts:
        for share in LESSON_SHARES:
            if needed(draft) * share > LESSON_BUDGET * budget:
                continue
            trial = Question(draft.cost, share, draft.start)
            after = outlook.after(trial, aim)
            scatter = math.hypot(after, outlook.law.noise)
            lessons.append((1 - scatter / before.scatter, draft.hours * share * gpus, draft, share, scatter))
    if not lessons:
        return None
    worth = [lesson for lesson in lessons if lesson[0] >= LESSON_GAIN] or [max(lessons, key=lambda lesson: lesson[0])]
    gain, device_hours, draft, share, scatter = max(worth, key=lambda lesson: lesson[0] / lesson[1])
    reach = outlook.law.quantile * scatter
    return Lesson(
        model=draft.cost.model,
        input_size=draft.cost.input_size,
        patch_size=draft.cost.patch_size,
        start=draft.start,
        share=share,
        device_hours=device_hours,
        interval_before=(before.low, before.high),
        interval_after=(before.value * math.exp(-reach), before.value * math.exp(reach)),
        shrinks_by=gain,
    )
