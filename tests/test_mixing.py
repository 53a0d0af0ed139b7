import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imix import beta, cutmix, inputmix, mixed_loss, mixing, mixup, random_partners


@given(st.integers(1, 20), st.integers(1, 4), st.floats(0.1, 8))
@settings(max_examples=50, deadline=None)
def test_mixup_is_the_formula(per_group, groups, alpha):
    x = torch.randn(per_group * groups, 3, 2)
    before = x.clone()
    mixed, partner, lam = mixup(x, alpha, groups=groups)
    for i in range(len(x)):
        assert torch.allclose(mixed[i], lam[i] * x[i] + (1 - lam[i]) * x[partner[i]], atol=1e-6)
        assert partner[i] // per_group == i // per_group
    assert sorted(partner.tolist()) == list(range(len(x)))
    assert ((lam >= 0.5) & (lam <= 1)).all()
    assert torch.equal(x, before)


def test_partners_are_uniform_over_permutations(generator):
    draws = torch.stack([random_partners(3, 1, generator) for _ in range(6000)])
    _, counts = draws.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and (counts - 1000).abs().max() < 150  # 5 standard deviations


def test_beta_has_the_moments(generator):
    for alpha in (0.5, 1.0, 2.0):
        draws = beta(alpha, 40_000, generator)
        assert abs(draws.mean() - 0.5) < 0.01
        assert abs(draws.var() - 1 / (4 * (2 * alpha + 1))) < 0.005


def test_same_seed_same_mixture():
    x = torch.randn(8, 5)
    one, two = (mixup(x, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_cutmix_counts_its_pixels(generator):
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 9, 7)
    for _ in range(50):
        mixed, partner, lam = cutmix(images, 1.0, generator=generator)
        for i in range(6):
            if partner[i] != i:
                assert torch.isclose((mixed[i] == i).float().mean(), lam[i])
                assert ((mixed[i] == i) | (mixed[i] == partner[i])).all()
        assert (lam == lam[0]).all()


def test_cutmix_box_has_the_published_size():
    torch.manual_seed(0)
    lams = torch.stack([cutmix(torch.zeros(1, 1, 64, 64), 1.0).lam[0] for _ in range(3000)])
    # a box of share U(0, 1/2), lam being folded, with a uniform centre, clipped: per axis the mean kept is s - s^2 / 4 of side s
    shares = torch.rand(200_000) / 2
    expected = 1 - (shares.sqrt() - shares / 4).square().mean()
    assert abs(lams.mean() - expected) < 0.02


def test_inputmix_weights(generator):
    x = torch.eye(12)
    for others in (1, 2, 3):
        mixed = inputmix(x, others, generator=generator)
        assert torch.allclose(mixed.sum(1), torch.ones(12), atol=1e-5)
        assert (mixed.diagonal() >= 0.5 - 1e-6).all()
        assert ((mixed > 0).sum(1) <= others + 1).all()


def test_mixed_loss_is_linear_in_the_label():
    logits = torch.randn(6, 6, dtype=torch.float64)
    _, partner, lam = mixup(torch.zeros(6, 1))
    labels = lam[:, None] * torch.eye(6) + (1 - lam[:, None]) * torch.eye(6)[partner]
    expected = -(labels * logits.log_softmax(1)).sum(1).mean()
    loss = mixed_loss(lambda label: torch.nn.functional.cross_entropy(logits, label, reduction="none"), partner, lam)
    assert torch.isclose(loss, expected)


def test_lam_one_is_no_mixing():
    logits = torch.randn(6, 6)

    def ce(label):
        return torch.nn.functional.cross_entropy(logits, label, reduction="none")

    assert torch.equal(mixed_loss(ce, torch.randperm(6), torch.ones(6)), ce(torch.arange(6)).mean())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("followed", [0, 3])
def test_a_layer_mixes_its_inputs_block_by_block(generator, groups, followed):
    layer, x = torch.nn.Linear(5, 3), torch.randn(8, 5, generator=generator)
    mixture = mixing.mixup(x, groups=groups, generator=generator)
    rest = torch.randn(followed, 5, generator=generator)
    with mixing.mixes_hidden(layer, mixture, groups):
        outputs = [layer(torch.cat([block, rest])) for block in x.chunk(groups)]
    for output, mixed in zip(outputs, mixture.inputs.chunk(groups), strict=True):
        assert torch.allclose(output, layer(torch.cat([mixed, rest])), atol=1e-6)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))  # mixes no more
