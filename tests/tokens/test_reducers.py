"""Every reducer: one signature, identity at K = N, honest assignments; then what each one promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.optim import param_groups_weight_decay

from patchscale.errors import InputError
from patchscale.tokens.reducers import REDUCERS, auxiliary_loss, build_reducer
from patchscale.tokens.reducers.merge import pooled_grid
from patchscale.tokens.reducers.slots import mean_squared_cosine
from tests.tokens.images import patches

DIM = 16
PICKS = ("random", "attention", "qr")
MERGES = ("pool", "tome", "kmeans", "visionzip")


def reduce(name: str, tokens: torch.Tensor, keep: int, *, train: bool = False, **options):
    torch.manual_seed(1)
    reducer = build_reducer(name, dim=tokens.shape[2], slots=keep, **options).train(train)
    return reducer(tokens, keep, scores=tokens.detach().norm(dim=2))


@pytest.mark.parametrize("name", REDUCERS)
class TestEvery:
    def test_keeps_k_rows_and_says_where_each_token_went(self, name):
        tokens = torch.randn(3, 30, DIM)
        found = reduce(name, tokens, 7)
        assert found.tokens.shape == (3, 7, DIM)
        assert found.tokens.isfinite().all()
        assert found.mask is None
        assert found.counts.tolist() == [7, 7, 7]
        assert found.assignment.shape == (3, 30)
        assert found.assignment.min() >= -1
        assert found.assignment.max() < 7
        members = torch.stack([(found.assignment == k).sum(1) for k in range(7)], dim=1)
        dropping = name in ("random", "attention")
        assert torch.equal(found.mass.long(), members)
        assert (found.assignment == -1).any() == dropping

    def test_is_the_identity_when_all_are_kept(self, name):
        tokens = torch.randn(2, 9, DIM)
        for keep in (9, 12):
            found = reduce(name, tokens, keep)
            assert found.tokens is tokens
            assert torch.equal(found.assignment, torch.arange(9).expand(2, 9))

    def test_gradients_reach_the_tokens_and_every_parameter(self, name):
        tokens = torch.randn(2, 20, DIM, requires_grad=True)
        torch.manual_seed(0)
        reducer = build_reducer(name, dim=DIM, slots=5).train()
        found = reducer(tokens, 5, scores=tokens.detach().norm(dim=2))
        (found.tokens.square().sum() + auxiliary_loss(reducer)).backward()
        assert tokens.grad.abs().sum() > 0
        for key, parameter in reducer.named_parameters():
            assert parameter.grad is not None, key

    def test_odd_counts_down_to_one_row(self, name):
        for count, keep in ((7, 1), (13, 5), (5, 4)):
            assert reduce(name, torch.randn(2, count, DIM), keep).tokens.shape == (2, keep, DIM)

    def test_refuses_to_keep_nothing(self, name):
        with pytest.raises(InputError, match="kept tokens 0 is not positive; keep at least 1 of 9"):
            build_reducer(name, dim=4, slots=1)(torch.randn(1, 9, 4), 0)


@pytest.mark.parametrize("name", [name for name in REDUCERS if name != "filtering_released"])
def test_same_rows_alone_or_in_a_batch(name):
    """Not so for filtering as released, where an image's empty slots depend on its batch."""
    tokens = torch.randn(4, 24, DIM, dtype=torch.float64)
    torch.manual_seed(0)
    reducer = build_reducer(name, dim=DIM, slots=6).double().eval()
    scores = tokens.norm(dim=2)
    together = reducer(tokens, 6, scores=scores)
    for i in range(4):
        alone = reducer(tokens[i : i + 1], 6, scores=scores[i : i + 1])
        torch.testing.assert_close(together.tokens[i], alone.tokens[0])
        assert torch.equal(together.assignment[i], alone.assignment[0])


@pytest.mark.parametrize("name", PICKS)
def test_picked_rows_are_tokens_in_image_order(name):
    tokens = torch.randn(2, 30, DIM)
    found = reduce(name, tokens, 8)
    assert (found.source.diff(dim=1) > 0).all()
    torch.testing.assert_close(found.tokens, tokens.gather(1, found.source[..., None].expand(-1, -1, DIM)))
    own = found.assignment.gather(1, found.source)
    assert torch.equal(own, torch.arange(8).expand(2, 8))


@pytest.mark.parametrize("name", MERGES)
@settings(deadline=None, max_examples=20)
@given(count=st.integers(2, 40), data=st.data())
def test_merging_conserves_token_mass(name, count, data):
    keep = data.draw(st.integers(1, count - 1))
    tokens = torch.randn(2, count, DIM, dtype=torch.float64)
    found = reduce(name, tokens, keep)
    assert found.mass.sum(1).tolist() == [count, count]
    torch.testing.assert_close((found.mass.double()[..., None] * found.tokens).sum(1), tokens.sum(1))
    for row in range(keep):
        member = found.assignment[0] == row
        if member.any():
            torch.testing.assert_close(found.tokens[0, row], tokens[0, member].mean(0))


def test_tome_merges_the_most_similar_first():
    tokens = torch.eye(8)[None].repeat(1, 1, 1)
    tokens[0, 5] = 3 * tokens[0, 2]
    found = reduce("tome", tokens, 7)
    assert found.assignment[0, 5] == found.assignment[0, 2]
    assert found.mass[0].sort().values.tolist() == [1, 1, 1, 1, 1, 1, 2]
    assert (found.source.diff(dim=1) > 0).all()


def test_pool_groups_are_rectangles():
    tokens = torch.arange(24.0).view(1, 24, 1).expand(1, 24, 2)
    found = build_reducer("pool", dim=2, slots=6)(tokens, 6, grid=(4, 6))
    assert pooled_grid(6, (4, 6)) == (2, 3)
    assert found.assignment.view(4, 6).tolist() == [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2
    assert found.tokens[0, 0, 0] == sum([0, 1, 6, 7]) / 4
    assert pooled_grid(11, (4, 6)) is None


def test_kmeans_finds_clusters():
    centres = 10 * torch.eye(DIM)[:4]
    tokens = (centres.repeat(6, 1) + 0.01 * torch.randn(24, DIM))[None]
    found = reduce("kmeans", tokens, 4)
    assert all(len(set(found.assignment[0, k::4].tolist())) == 1 for k in range(4))
    assert found.mass.tolist() == [[6, 6, 6, 6]]


def test_random_is_drawn_anew_in_training_and_fixed_and_nested_in_evaluation():
    tokens = torch.randn(2, 40, DIM)
    reducer = build_reducer("random", dim=DIM, slots=10)
    torch.manual_seed(0)
    first, second = reducer(tokens, 10).source, reducer(tokens, 10).source
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    reducer.eval()
    small, large = reducer(tokens, 5).source, reducer(tokens, 10).source
    assert torch.equal(reducer(tokens, 10).source, large)
    assert set(small[0].tolist()) < set(large[0].tolist())


class TestReleasedFiltering:
    def test_one_slot_is_the_experts_sum(self):
        tokens = torch.randn(2, 9, DIM)
        reducer = build_reducer("filtering_released", dim=DIM, slots=3).eval()
        with torch.no_grad():
            reducer.gate.bias.copy_(torch.tensor([0.0, 50.0, 0.0]))
        found = reducer(tokens, 3)
        assert (found.assignment == 1).all()
        torch.testing.assert_close(found.tokens[:, 1], reducer.norm(reducer.experts.one(1, tokens).sum(1)))
        blank = reducer.norm(reducer.experts.one(0, torch.zeros(1, DIM)))
        torch.testing.assert_close(found.tokens[:, 0], blank.expand(2, DIM))

    def test_parameters_grow_with_slots(self):
        for slots in (4, 9):
            reducer = build_reducer("filtering_released", dim=DIM, slots=slots)
            expected = slots * (2 * DIM**2 + 5 * DIM + 1) + 2 * DIM
            assert sum(p.numel() for p in reducer.parameters()) == expected

    def test_the_gate_gets_no_gradient_from_the_task(self):
        reducer = build_reducer("filtering_released", dim=DIM, slots=4).train()
        reducer(torch.randn(2, 9, DIM), 4).tokens.square().sum().backward()
        assert reducer.gate.weight.grad is None
        assert auxiliary_loss(reducer).requires_grad

    def test_its_balance_loss_looks_at_expert_0_alone(self):
        from patchscale.tokens.reducers.filtering import _released_balance

        probabilities = torch.rand(2, 9, 4).softmax(2).requires_grad_()
        _released_balance(probabilities, probabilities.argmax(2)).backward()
        assert (probabilities.grad[..., 0] > 0).all()
        assert (probabilities.grad[..., 1:] == 0).all()

    def test_serves_one_k(self):
        reducer = build_reducer("filtering_released", dim=DIM, slots=4)
        with pytest.raises(InputError, match="has 4 slots and cannot keep 3 tokens"):
            reducer(torch.randn(1, 9, DIM), 3)


class TestFiltering:
    def test_parameters_do_not_grow_with_slots_and_any_k_is_served(self):
        few, many = (build_reducer("filtering", dim=DIM, slots=k) for k in (2, 50))
        assert sum(p.numel() for p in few.parameters()) == sum(p.numel() for p in many.parameters())
        assert few(torch.randn(1, 60, DIM), 50).tokens.shape == (1, 50, DIM)
        own = build_reducer("filtering", dim=DIM, slots=2, experts="own")
        with pytest.raises(InputError, match="has 2 experts and cannot keep 3"):
            own(torch.randn(1, 9, DIM), 3)

    def test_the_gate_learns_from_the_task(self):
        reducer = build_reducer("filtering", dim=DIM, slots=4, balance=0.0, orthogonality=0.0).train()
        reducer(torch.randn(2, 9, DIM), 4).tokens[..., 0].sum().backward()
        assert reducer.query.weight.grad.abs().sum() > 0

    def test_balance_is_one_when_even_and_k_when_all_go_to_one_slot(self):
        from patchscale.tokens.reducers.slots import balance

        even = torch.full((1, 8, 4), 0.25)
        assert balance(even, torch.arange(8)[None] % 4).item() == pytest.approx(1.0)
        one = torch.nn.functional.one_hot(torch.zeros(1, 8, dtype=torch.int64), 4).float()
        assert balance(one, one.argmax(2)).item() == pytest.approx(4.0)

    def test_orthogonality_loss_lowers_the_cosine_between_slots_of_real_images(self, real_data):
        tokens = patches(real_data, 64)
        reached = {}
        for weight in (0.0, 1.0):
            torch.manual_seed(0)
            reducer = build_reducer("filtering", dim=48, slots=8, balance=0.1, orthogonality=weight).train()
            decoder = torch.nn.Linear(48, 48)
            optimizer = torch.optim.AdamW([*reducer.parameters(), *decoder.parameters()], lr=2e-3)
            for _ in range(60):
                found = reducer(tokens, 8)
                copies = decoder(found.tokens).gather(1, found.assignment[..., None].expand(-1, -1, 48))
                loss = (copies - tokens).square().mean() + auxiliary_loss(reducer)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            found = reducer.eval()(tokens, 8)
            reached[weight] = mean_squared_cosine(found.tokens, found.mass > 0).mean().item()
        print(f"mean squared cosine between slots: {reached[0.0]:.3f} without, {reached[1.0]:.3f} with the loss")
        assert reached[1.0] < 0.5 * reached[0.0]


def test_mean_squared_cosine_of_known_slots():
    slots = torch.stack([torch.eye(3), torch.ones(3, 3)])
    assert mean_squared_cosine(slots, torch.ones(2, 3, dtype=torch.bool)).tolist() == pytest.approx([0.0, 1.0])
    assert mean_squared_cosine(slots[1:], torch.tensor([[True, False, False]])).tolist() == [0.0]


def test_auxiliary_losses_are_collected_once():
    layers = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    assert auxiliary_loss(layers) == 0
    layers[0].auxiliary_loss, layers[1].auxiliary_loss = torch.tensor(1.0), torch.tensor(0.5)
    assert auxiliary_loss(layers) == 1.5
    assert auxiliary_loss(layers) == 0


def test_what_is_wrong_is_named():
    with pytest.raises(InputError, match="unknown reducer 'tomee'; use one of tome"):
        build_reducer("tomee", dim=4, slots=2)
    with pytest.raises(InputError, match="reducer qr does not take these options"):
        build_reducer("qr", dim=4, slots=2, tolerances=0.1)
    with pytest.raises(InputError, match="TopScores chooses by scores"):
        build_reducer("attention", dim=4, slots=2)(torch.randn(1, 9, 4), 2)
    with pytest.raises(InputError, match="a 2x3 grid does not hold 9 tokens"):
        build_reducer("pool", dim=4, slots=2)(torch.randn(1, 9, 4), 2, grid=(2, 3))


def test_biases_and_scales_of_experts_are_found_by_the_optimizer():
    reducer = build_reducer("filtering", dim=DIM, slots=2)
    groups = param_groups_weight_decay(reducer, 0.05)
    assert sum(len(group["params"]) for group in groups) == len(list(reducer.parameters()))
