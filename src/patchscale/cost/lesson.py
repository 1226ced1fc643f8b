"""What to run first: the trial that teaches most about the best plan, per device-hour."""

from __future__ import annotations

import math
from collections.abc import Sequence

from patchscale.cost.configuration import Configuration, Draft
from patchscale.cost.outlook import Outlook, Question
from patchscale.cost.plan_result import Lesson

BUDGET = 0.25
"""Largest part of the budget that a first trial may take."""
GAIN = 0.1
"""A first trial must shrink the best plan's interval by at least this much, relatively, to be worth naming alone."""
SHARES = (0.1, 0.3, 1.0)
"""Of the full schedule, that are considered for it."""


def first_lesson(
    best: tuple[Draft, Configuration], drafts: Sequence[tuple[Draft, float]], outlook: Outlook, *, gpus: int
) -> Lesson | None:
    """The trial within a quarter of the budget that shrinks the best plan's interval most per device-hour.

    Args:
        best: the best plan.
        drafts: what fits, each with the share of the budget that its full schedule takes.
        outlook: the law and what it does not know.
        gpus: devices.

    Returns:
        None if no trial costs a quarter of the budget or less.
    """
    aim = Question(best[0].cost, best[1].share, best[1].start)
    before = outlook.predict(aim)
    lessons = []
    for draft, part in drafts:
        for share in SHARES:
            if part * share > BUDGET:
                continue
            scatter = math.hypot(outlook.after(Question(draft.cost, share, draft.start), aim), outlook.law.noise)
            lessons.append((1 - scatter / before.scatter, draft.hours * share * gpus, draft, share, scatter))
    if not lessons:
        return None
    worth = [lesson for lesson in lessons if lesson[0] >= GAIN] or [max(lessons, key=lambda lesson: lesson[0])]
    gain, device_hours, draft, share, scatter = max(worth, key=lambda lesson: lesson[0] / lesson[1])
    after = outlook.interval(before.value, scatter)
    return Lesson(
        model=draft.cost.model,
        input_size=draft.cost.input_size,
        patch_size=draft.cost.patch_size,
        start=draft.start,
        share=share,
        device_hours=device_hours,
        interval_before=(before.low, before.high),
        interval_after=after,
        shrinks_by=gain,
    )
