"""Text scores on values known by hand or from the papers, and the divergence against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from patchscale.errors import InputError
from patchscale.laws import vlm_theory as theory
from patchscale.tasks.captioning.divergence import divergence
from patchscale.tasks.captioning.metrics import bleu, caption_scores, cider, common_words, rouge_l


def split(*pairs):
    return [(text.split(), [reference.split() for reference in references]) for text, references in pairs]


def test_clipped_precision_of_the_bleu_paper():
    # Papineni et al. 2002, example 2: seven times "the"; its clipped unigram precision is 2 / 7, length 7 against 7.
    pairs = split(("the the the the the the the", ["the cat is on the mat now", "there is a cat on the mat"]))
    assert bleu(pairs, 1) == pytest.approx(2 / 7)
    assert bleu(pairs, 4) == 0


def test_bleu_of_a_shorter_text_is_penalised():
    pairs = split(("a b c d", ["a b c d e f"]))
    assert bleu(pairs, 4) == pytest.approx(math.exp(1 - 6 / 4))
    assert bleu(split(("a b c d e", ["a b c d e", "x"])), 4) == 1


def test_rouge_of_the_paper():
    # Lin 2004: "police killed the gunman" against "police kill the gunman" has 3 of 4 words in order.
    pairs = split(("police kill the gunman", ["police killed the gunman"]))
    assert rouge_l(pairs) == pytest.approx(0.75)
    assert common_words(["the", "gunman", "kill", "police"], ["police", "killed", "the", "gunman"]) == 2
    uneven = split(("a b", ["a x y z"]))
    assert rouge_l(uneven) == pytest.approx((1 + 1.44) * 0.5 * 0.25 / (0.25 + 1.44 * 0.5))


def test_cider_of_references_themselves_and_of_others():
    pairs = split(("a b c d e", ["a b c d e"]), ("f g h i j", ["f g h i j"]))
    assert cider(pairs) == pytest.approx(10)
    wrong = split(("f g h i j", ["a b c d e"]), ("a b c d e", ["f g h i j"]))
    assert cider(wrong) == 0
    # of two images every word is in one, so all weigh log 2: "a" of "a x" against "a y" is a cosine of 1 / 2 for
    # single words, 0 for the one pair; "q" has a cosine of 1 for single words, and no longer runs
    half = split(("a x", ["a y"]), ("q", ["q"]))
    assert cider(half) == pytest.approx(10 * (1 / 2 / 4 + 1 / 4) / 2)


def test_punctuation_and_capitals_do_not_count():
    scores = caption_scores([("A red disc .", ["a red disc"]), ("two cats", ["two cats"])])
    assert scores["bleu1"] == scores["rouge_l"] == 1


def test_one_pass_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    found = divergence(first, second)
    for n in range(1, 8):
        expected = {"psi_eq": [], "psi_first": [], "psi_second": [], "psi_cross": [], "distance": []}
        for a, b in zip(first.numpy(), second.numpy(), strict=True):
            unit_a, unit_b = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (a, b))
            pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
            expected["psi_eq"].append(np.mean([unit_a[i] @ unit_b[i] for i in range(n)]))
            expected["distance"].append(np.linalg.norm((a[:n] - b[:n]).sum(0)))
            if pairs:
                expected["psi_first"].append(np.mean([unit_a[i] @ unit_a[j] for i, j in pairs]))
                expected["psi_second"].append(np.mean([unit_b[i] @ unit_b[j] for i, j in pairs]))
                expected["psi_cross"].append(np.mean([unit_a[i] @ unit_b[j] for i, j in pairs]))
        for name, values in expected.items():
            if values:
                assert getattr(found, name)[n - 1] == pytest.approx(np.mean(values), abs=1e-10), (name, n)
        assert found.deviation[n - 1] == pytest.approx(np.std(expected["distance"]), abs=1e-10)


def test_sequences_of_known_cosines_follow_the_bound():
    psi_eq, psi_same, psi_cross = 0.3, 0.6, 0.1
    generator = np.random.default_rng(1)
    n, dim, samples = 12, 256, 60
    shared, branch = generator.normal(size=(samples, 1, dim)), generator.normal(size=(2, samples, 1, dim))
    place, own = generator.normal(size=(samples, n, dim)), generator.normal(size=(2, samples, n, dim))
    weights = (psi_cross, psi_same - psi_cross, psi_eq - psi_cross, 1 - psi_same - psi_eq + psi_cross)
    parts = (shared[None], branch, place[None], own)
    states = sum(np.sqrt(weight) * part for weight, part in zip(weights, parts, strict=True))
    found = divergence(*(torch.from_numpy(rows) for rows in states))
    for name, value in (("psi_eq", psi_eq), ("psi_same", psi_same), ("psi_cross", psi_cross)):
        assert getattr(found, name)[1:] == pytest.approx(value, abs=0.03)
    assert theory.distance_scale(found.distance, found.bound) == pytest.approx(np.sqrt(2 * dim), rel=0.02)
    assert found.token_scale[-1] == pytest.approx(theory.token_scale(psi_eq, psi_same, psi_cross), abs=0.15)


def test_states_that_are_no_pairs():
    with pytest.raises(InputError, match="no pairs"):
        divergence(torch.zeros(2, 3, 4), torch.zeros(2, 4, 4))
