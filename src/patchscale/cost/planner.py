"""`plan`: a device, a budget and a data set in; ranked configurations with predictions, and what to run first, out.

Each configuration takes its published schedule (or the table's), shortened to what the budget pays for, never below a
tenth. Ranking is by the upper end of the predicted interval, so what is poorly known ranks below what is known. With a
target, schedules end where it becomes as likely as not to be reached, and those that reach it rank by device-hours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from patchscale.cost.candidates import draft_published, draft_table
from patchscale.cost.configuration import Configuration, Draft, settle
from patchscale.cost.devices import GIB, Device, device_of
from patchscale.cost.lesson import first_lesson
from patchscale.cost.outlook import SCHEDULE, Outlook, Question, published_outlook
from patchscale.cost.placement import usable_memory
from patchscale.cost.plan_result import Plan
from patchscale.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LEAST_SHARE = 0.1
"""Shortest schedule worth planning, as a share of the full one."""


@dataclass(frozen=True)
class Budget:
    """What may be spent.

    Attributes:
        kind: `hours` (wall-clock, all devices together), `money` or `flops` (model FLOPs, three forward passes).
        amount: of it.
        price_per_hour: of one device; `money` needs it.
    """

    kind: Literal["hours", "money", "flops"]
    amount: float
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount > 0):
            raise InputError(f"budget_{self.kind} {self.amount:g} is not positive; give what may be spent")
        if self.kind == "money" and self.price_per_hour is None:
            raise InputError("budget_money needs price_per_hour: what one device costs an hour")

    def needed(self, draft: Draft, gpus: int) -> float:
        """What the full schedule of `draft` takes of this budget."""
        if self.kind == "flops":
            return draft.flops
        return draft.hours if self.kind == "hours" else draft.hours * gpus * (self.price_per_hour or 0.0)


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
    given = {"hours": budget_hours, "money": budget_money, "flops": budget_flops}
    chosen = device_of(device)
    budget = _one_budget(given, price_per_hour)
    _check(
        data_size=data_size, gpus=gpus, memory=memory, price_per_hour=price_per_hour, num_classes=num_classes, top=top
    )
    knowledge = Knowledge(data_size, table=table, metric=metric)
    planner = Planner(
        knowledge, chosen, gpus=gpus, memory=memory, models=models, inputs=inputs, patches=patches,
        num_classes=num_classes,
    )  # fmt: skip
    return planner.plan(budget, target=target, top=top)


class Knowledge:
    """What is known before planning: a law, published or of the user's own table, and how far it can be trusted.

    Args:
        data_size, table, metric: as of `plan`.
    """

    def __init__(
        self, data_size: int, *, table: pd.DataFrame | Path | str | None = None, metric: str | None = None
    ) -> None:
        self.data_size = data_size
        self.own = None
        if table is None:
            if metric not in (None, "top1"):
                raise InputError(f"metric {metric!r}: the published law is of top1; give a table to plan by test_loss")
            self.outlook, self.notes = published_outlook(data_size)
            self.other_data = bool(self.notes)
            self.source = "the published law: tables 1 and 4 of 2502.03738, ImageNet-1k"
            return
        from patchscale.cost.table_law import TableLaw
        from patchscale.cost.table_rows import read_table

        self.own = TableLaw(read_table(table), metric or "test_loss")
        self.outlook = Outlook(self.own, laboratory=0.0)
        self.notes = [f"left out: {text}" for text in self.own.left_out]
        self.other_data = False
        self.source = f"the table's own laws of {self.own.quantity}"

    def limits(self, draft: Draft, share: float) -> list[str]:
        """In which ways `share` of `draft` lies outside what is known."""
        found = self.outlook.law.limits(draft.cost)
        if share < 1:
            found.append(
                f"schedule cut to {share:.0%}: scaled by (1/share)^{SCHEDULE}, from ViT-S/16's 90 and 300 epochs"
            )
        if draft.start == "coarser":
            found.append("start from a coarser patch assumed as good as the published first stages")
        return [*found, *(["the law is of other images"] if self.other_data else [])]


class Planner:
    """Everything that can be trained on some devices; one planner answers for many budgets and targets.

    Args:
        knowledge: the law.
        device, gpus, memory, models, inputs, patches, num_classes: as of `plan`.

    Raises:
        InputError: no patch size divides any input size.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        device: Device,
        *,
        gpus: int = 1,
        memory: float | None = None,
        models: Sequence[str] | None = None,
        inputs: Sequence[int] | None = None,
        patches: Sequence[int] | None = None,
        num_classes: int = 1000,
    ) -> None:
        self.knowledge, self.device, self.gpus = knowledge, device, gpus
        self.limit = usable_memory(device, None if memory is None else memory * GIB)
        options = {
            "gpus": gpus, "limit": self.limit, "images": knowledge.data_size, "num_classes": num_classes,
            "models": models, "inputs": inputs, "patches": patches,
        }  # fmt: skip
        if knowledge.own is None:
            self.drafts = list(draft_published(device, **options))
        else:
            self.drafts = list(draft_table(device, knowledge.own, **options))
        if not self.drafts:
            raise InputError(
                "no configuration to plan: no patch size divides any input size; give other inputs or patches"
            )

    def plan(self, budget: Budget, *, target: float | None = None, top: int = 10) -> Plan:
        """Ranks what `budget` allows; see the function `plan`."""
        knowledge, device = self.knowledge, self.device
        aim = _aim(target, knowledge.outlook.law.quantity)
        pairs = [(draft, self._settled(draft, budget, aim)) for draft in self.drafts]
        fitting = [pair for pair in pairs if pair[1].fits]
        ranked = sorted(fitting, key=lambda pair: _rank(pair[1], aim)) or sorted(pairs, key=lambda pair: pair[1].over)
        ranked = _best_of_each(ranked)[: top if fitting else 3]
        notes = list(knowledge.notes)
        if device.time_factor > 1.2:
            notes.append(f"hours of {device.name} within a factor of {device.time_factor:g}: {device.source}")
        if not fitting:
            notes.insert(0, _nearest_note(ranked[0][1], budget, self.limit))
        elif aim is not None and (ranked[0][1].target_probability or 0) < 0.5:
            notes.append(f"no configuration within the budget is likelier than not to reach {target:g}")
        lesson = first_lesson(
            ranked[0],
            [(draft, budget.needed(draft, self.gpus) / budget.amount) for draft, _ in fitting],
            knowledge.outlook,
            gpus=self.gpus,
        )
        return Plan(
            device=device,
            gpus=self.gpus,
            budget={budget.kind: budget.amount},
            memory_bytes=self.limit,
            data_size=knowledge.data_size,
            target=target,
            source=knowledge.source,
            outlook=knowledge.outlook.to_dict(),
            fits=bool(fitting),
            configurations=tuple(configuration for _, configuration in ranked),
            learn_first=lesson,
            notes=tuple(notes),
        )

    def _settled(self, draft: Draft, budget: Budget, aim: float | None) -> Configuration:
        """The part of a draft's schedule that the budget pays for and the target needs, with what is expected of it."""
        outlook, need = self.knowledge.outlook, budget.needed(draft, self.gpus)
        share = min(1.0, max(LEAST_SHARE, budget.amount / need))
        if aim is not None:
            share = min(share, max(LEAST_SHARE, outlook.share_reaching(aim, draft.cost, draft.start)))
        over = share * need / budget.amount
        if not draft.fits_memory:
            over = max(over, draft.memory_bytes / self.limit) if self.limit else math.inf
        return settle(
            draft, share, outlook.predict(Question(draft.cost, share, draft.start)), device=self.device, gpus=self.gpus,
            price=budget.price_per_hour, target=aim, outside=self.knowledge.limits(draft, share),
            fits=draft.fits_memory and share * need <= budget.amount * (1 + 1e-9), over=over,
        )  # fmt: skip


def _one_budget(given: dict, price: float | None) -> Budget:
    """The only budget of `plan`'s three."""
    named = {kind: amount for kind, amount in given.items() if amount is not None}
    if len(named) != 1:
        raise InputError(f"{len(named)} budgets given; give one of budget_hours, budget_money, budget_flops")
    kind, amount = next(iter(named.items()))
    return Budget(kind, float(amount), price)


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
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"target {target} is not a test loss above 0")
    return target


def _rank(line: Configuration, aim: float | None) -> tuple:
    if aim is None or line.target_probability is None:
        return (line.high, line.predicted, line.device_hours)
    return (0, line.device_hours) if line.target_probability >= 0.5 else (1, -line.target_probability)


def _best_of_each(pairs: list[tuple[Draft, Configuration]]) -> list[tuple[Draft, Configuration]]:
    """The better start of each model, input and patch size."""
    kept: dict[tuple, tuple[Draft, Configuration]] = {}
    for pair in pairs:
        kept.setdefault((pair[1].model, pair[1].input_size, pair[1].patch_size), pair)
    return list(kept.values())


def _nearest_note(line: Configuration, budget: Budget, limit: float) -> str:
    if line.memory_bytes > limit:
        return (
            f"nothing fits in {limit / GIB:.3g} GiB of usable memory; the nearest needs "
            f"{line.memory_bytes / GIB:.3g} GiB with one image a pass and recompute on"
        )
    return (
        f"no configuration fits a budget of {budget.amount:g} {budget.kind}, even at {LEAST_SHARE:.0%} of its "
        f"schedule; the nearest needs {line.over:.3g} times as much"
    )
