"""Scores of free captions against several references: BLEU, ROUGE-L, CIDEr.

Words are those of `patchscale.data.captions.words` without punctuation (COCO's scorers use the Penn tokenizer, which
differs on contractions).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from patchscale.data.captions import words

Pair = tuple[str, Sequence[str]]
"""A caption and its references."""


def caption_scores(pairs: Sequence[Pair]) -> dict[str, float]:
    """`bleu1`, `bleu4`, `rouge_l` (0 to 1) and `cider` (0 to 10)."""
    said = [(plain(text), [plain(reference) for reference in references]) for text, references in pairs]
    return {"bleu1": bleu(said, 1), "bleu4": bleu(said, 4), "rouge_l": rouge_l(said), "cider": cider(said)}


def plain(text: str) -> list[str]:
    """Words in small letters, punctuation left out."""
    return [word for word in words(text) if any(letter.isalnum() for letter in word)]


Words = list[str]
Spoken = Sequence[tuple[Words, Sequence[Words]]]


def bleu(pairs: Spoken, order: int) -> float:
    """Corpus BLEU up to n-grams of `order`, unsmoothed (Papineni et al. 2002), with the closest reference's length."""
    matched, possible = [0] * order, [0] * order
    length = wanted = 0
    for text, references in pairs:
        length += len(text)
        wanted += min((len(reference) for reference in references), key=lambda size: (abs(size - len(text)), size))
        for n in range(1, order + 1):
            own = grams(text, n)
            most: Counter = Counter()
            for reference in references:
                most |= grams(reference, n)
            matched[n - 1] += sum((own & most).values())
            possible[n - 1] += max(0, len(text) - n + 1)
    if not length or not all(matched):
        return 0.0
    precision = sum(math.log(hit / total) for hit, total in zip(matched, possible, strict=True)) / order
    return math.exp(precision + min(0.0, 1 - wanted / length))


def rouge_l(pairs: Spoken, beta: float = 1.2) -> float:
    """Mean F-measure of the longest common subsequence (Lin 2004), best precision and recall over references."""
    found = []
    for text, references in pairs:
        common = [common_words(text, reference) for reference in references]
        precision = max((hit / len(text) for hit in common if text), default=0.0)
        recall = max((hit / len(ref) for hit, ref in zip(common, references, strict=True) if ref), default=0.0)
        both = recall + beta**2 * precision
        found.append((1 + beta**2) * precision * recall / both if both else 0.0)
    return sum(found) / len(found)


def cider(pairs: Spoken, sigma: float = 6.0) -> float:
    """CIDEr-D (Vedantam et al. 2015): cosine of tf-idf n-grams, clipped, with a penalty on length; 0 to 10.

    Document frequencies are those of the references given here, one document per image, as in COCO's scorer; of a
    single image every n-gram is in every document, and the score is 0.
    """
    document: Counter = Counter()
    for _, references in pairs:
        document.update({gram for reference in references for n in range(1, 5) for gram in grams(reference, n)})
    logs = math.log(len(pairs))

    def vector(text: Words, n: int) -> dict[tuple, float]:
        return {gram: count * (logs - math.log(max(1, document[gram]))) for gram, count in grams(text, n).items()}

    total = 0.0
    for text, references in pairs:
        for reference in references:
            penalty = math.exp(-((len(text) - len(reference)) ** 2) / (2 * sigma**2))
            for n in range(1, 5):
                own, other = vector(text, n), vector(reference, n)
                product = sum(min(value, other[gram]) * other[gram] for gram, value in own.items() if gram in other)
                norms = math.sqrt(sum(v * v for v in own.values()) * sum(v * v for v in other.values()))
                total += penalty * product / norms / len(references) / 4 if norms else 0.0
    return 10 * total / len(pairs)


def grams(text: Sequence[str], n: int) -> Counter:
    """How often each run of n words occurs."""
    return Counter(tuple(text[start : start + n]) for start in range(len(text) - n + 1))


def common_words(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(other) + 1)
    for word in one:
        now = [0]
        for place, match in enumerate(other):
            now.append(before[place] + 1 if word == match else max(now[-1], before[place + 1]))
        before = now
    return before[-1]
