import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import imix
from imix import beta, cutmix, dirichlet, inputmix, mixed_loss, mixing, mixup, random_partners

OPERATORS = {
    "mixup": mixup,
    "cutmix": cutmix,
    "inputmix of one": lambda x, alpha=1.0, **kwargs: inputmix(x, 1, alpha, **kwargs),
    "inputmix of two": lambda x, alpha=1.0, **kwargs: inputmix(x, 2, alpha, **kwargs),
}
ALPHAS = (0.01, 0.03, 0.1, 0.5, 1.0, 2.0, 8.0, 1000.0)
DRAWS = 20_000
every_operator = pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)


def ce(logits):
    return lambda label: torch.nn.functional.cross_entropy(logits, label, reduction="none")


@given(st.integers(1, 20), st.integers(1, 4), st.floats(0.01, 1000))
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


def test_mixup_shares_lam(generator):
    _, partner, lam = mixup(torch.randn(8, 2), shared=True, generator=generator)
    assert lam.shape == (8,) and (lam == lam[0]).all() and not (partner == partner[0]).all()


def test_partners_are_uniform_over_permutations(generator):
    draws = torch.stack([random_partners(3, 1, generator) for _ in range(6000)])
    _, counts = draws.unique(dim=0, return_counts=True)
    assert len(counts) == 6 and (counts - 1000).abs().max() < 150  # 5 standard deviations


@pytest.mark.parametrize("alpha", ALPHAS)
def test_beta_has_its_distribution(alpha):
    draws = beta(alpha, DRAWS, torch.Generator().manual_seed(1))
    assert draws.dtype == torch.float32 and draws.shape == (DRAWS,) and ((draws >= 0) & (draws <= 1)).all()
    # as float32 on both sides: for a small alpha, most of the mass rounds to 1 and a part to 0
    scipys = stats.beta(alpha, alpha).rvs(DRAWS, random_state=1).astype(np.float32)
    assert stats.ks_2samp(draws.numpy(), scipys).pvalue > 0.01
    if alpha >= 0.5:
        assert stats.kstest(draws.double().numpy(), stats.beta(alpha, alpha).cdf).pvalue > 0.01


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("parts", [2, 3, 6])
def test_dirichlet_has_its_distribution(alpha, parts):
    draws = dirichlet(alpha, DRAWS, parts, torch.Generator().manual_seed(2))
    assert draws.dtype == torch.float32 and draws.shape == (DRAWS, parts) and draws.isfinite().all()
    assert torch.allclose(draws.sum(1), torch.ones(DRAWS), atol=1e-5)
    scipys = np.random.default_rng(2).dirichlet([alpha] * parts, DRAWS).astype(np.float32)
    if alpha < 0.1:  # NumPy draws these by stick-breaking, which does not keep parts below 1e-16
        draws, scipys = draws.clamp_min(1e-12), scipys.clip(1e-12)
    first, together = (lambda w: w[:, 0]), (lambda w: (w.astype(np.float64) ** 2).sum(1))
    for statistic in (first, together):
        assert stats.ks_2samp(statistic(draws.numpy()), statistic(scipys)).pvalue > 0.001


@every_operator
def test_same_seed_same_mixture(operator):
    x = torch.randn(8, 3, 5, 4)
    one, two, other = (operator(x, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


@every_operator
def test_random_numbers_are_drawn_on_the_host(operator):
    """On a device with random numbers of its own, here one without any values, the host's generator moves alike."""
    states = []
    for device in ("cpu", "meta"):
        generator = torch.Generator().manual_seed(3)
        with torch.device(device):
            mixed = operator(torch.zeros(8, 3, 5, 4), generator=generator)
        assert all(part.device.type == device for part in mixed)
        states.append(generator.get_state())
    assert torch.equal(*states)


@every_operator
def test_half_precision_and_gradients(operator, generator):
    """Every operator is linear in its inputs, so that its gradient is its difference along any direction."""

    def output(x):
        mixed = operator(x, generator=torch.Generator().manual_seed(0))
        return mixed.inputs if isinstance(mixed, mixing.Mixture) else mixed

    x, way, weights = torch.randn(3, 8, 3, 5, 4, dtype=torch.float64)
    (weights * output(x.requires_grad_())).sum().backward()
    difference = (weights * (output(x.detach() + way) - output(x.detach()))).sum()
    assert torch.isclose((x.grad * way).sum(), difference) and not torch.allclose(x.grad, weights)
    assert output(x.detach().bfloat16()).dtype == torch.bfloat16


def test_cutmix_counts_its_pixels(generator):
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 2, 9, 7)
    for _ in range(50):
        mixed, partner, lam = cutmix(images, 1.0, generator=generator)
        for i in range(6):
            if partner[i] != i:
                assert torch.isclose((mixed[i] == i).float().mean(), lam[i])
                assert ((mixed[i] == i) | (mixed[i] == partner[i])).all()
        assert (lam == lam[0]).all() and 0.5 <= lam[0] <= 1


def test_cutmix_pastes_one_rectangle(generator):
    for _ in range(50):
        mixed, partner, _ = cutmix(torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 16, 12), 0.5, generator=generator)
        pasted = {tuple((mixed[i, 0] != i).flatten().tolist()) for i in range(4) if partner[i] != i}
        assert len(pasted) <= 1
        for box in pasted:
            box = torch.tensor(box).view(16, 12)
            assert torch.equal(box, box.any(1)[:, None] & box.any(0))
            assert all((side.diff().abs().sum() <= 2) for side in (box.any(1).int(), box.any(0).int()))


def test_cutmix_box_has_the_published_size():
    torch.manual_seed(0)
    lams = torch.stack([cutmix(torch.zeros(1, 1, 64, 64), 1.0).lam[0] for _ in range(3000)])
    # a box of share U(0, 1/2), lam being folded, with a uniform centre, clipped: an axis keeps s - s^2 / 4 of side s
    shares = torch.rand(200_000) / 2
    expected = 1 - (shares.sqrt() - shares / 4).square().mean()
    assert abs(lams.mean() - expected) < 0.02


def test_cutmix_of_integers_is_exact(generator):
    images = torch.randint(256, (8, 3, 6, 6), dtype=torch.uint8)
    one, two = (cutmix(x, generator=torch.Generator().manual_seed(0)) for x in (images, images.double()))
    assert one.inputs.dtype == torch.uint8 and torch.equal(one.inputs.double(), two.inputs)


def test_inputmix_weights(generator):
    x = torch.eye(12)
    for others in (1, 2, 3):
        mixed = inputmix(x, others, generator=generator)
        assert torch.allclose(mixed.sum(1), torch.ones(12), atol=1e-5)
        assert (mixed.diagonal() >= 0.5 - 1e-6).all()
        used = mixed > 0
        assert (used.sum(1) <= others + 1).all() and (used.sum(1) == others + 1).any()
        assert used.sum() > 12 * others  # few rows draw themselves, or a row twice
        assert torch.unique(mixed.diagonal()).numel() == 12  # a weight of its own for every row


def test_mixed_loss_is_linear_in_the_label():
    logits = torch.randn(6, 6, dtype=torch.float64)
    _, partner, lam = mixup(torch.zeros(6, 1))
    labels = lam[:, None] * torch.eye(6) + (1 - lam[:, None]) * torch.eye(6)[partner]
    expected = -(labels * logits.log_softmax(1)).sum(1).mean()
    assert torch.isclose(mixed_loss(ce(logits), partner, lam), expected)


def test_lam_one_is_no_mixing():
    loss = ce(torch.randn(6, 6))
    assert torch.equal(mixed_loss(loss, torch.randperm(6), torch.ones(6)), loss(torch.arange(6)).mean())


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("followed", [0, 3])
def test_a_layer_mixes_its_inputs_block_by_block(generator, groups, followed):
    layer, x = torch.nn.Linear(5, 3), torch.randn(8, 5, generator=generator)
    mixture = mixing.mixup(x, groups=groups, generator=generator)
    rest = torch.randn(followed, 5, generator=generator)
    with mixing.mixes_hidden(layer, mixture, groups):
        outputs = [layer(torch.cat([block, rest])) for block in x.chunk(groups)]
        with pytest.raises(RuntimeError, match=f"more often than there are groups of the batch, {groups}"):
            layer(x)
    for output, mixed in zip(outputs, mixture.inputs.chunk(groups), strict=True):
        assert torch.allclose(output, layer(torch.cat([mixed, rest])), atol=1e-6)
    assert torch.equal(layer(x), torch.nn.functional.linear(x, layer.weight, layer.bias))  # mixes no more


# mistakes in the caller's code


@pytest.mark.parametrize("alpha", [0, -1.0, 0.009, 1000.5, float("nan"), float("inf"), -float("inf")])
def test_alphas_outside_the_range_are_refused(alpha):
    for call in [
        *OPERATORS.values(),
        lambda x, a: beta(a, 4),
        lambda x, a: dirichlet(a, 4, 3),
        lambda x, a: mixup(x, a, shared=True),
    ]:
        with pytest.raises(ValueError, match=r"alpha = .*: must be a number from 0.01 to 1000"):
            call(torch.zeros(4, 3, 2, 2), alpha)


@pytest.mark.parametrize("alpha", [None, "1.0", True, torch.ones(4), [1.0]])
def test_alphas_of_another_type_are_refused(alpha):
    for call in [*OPERATORS.values(), lambda x, a: beta(a, 4), lambda x, a: dirichlet(a, 4, 3)]:
        with pytest.raises(TypeError, match=r"alpha is of type .*; must be a number from 0.01 to 1000"):
            call(torch.zeros(4, 3, 2, 2), alpha)


def test_numpys_numbers_are_numbers():
    x = torch.randn(4, 2, 2, 2)
    assert mixup(x, np.float32(0.5), groups=np.int64(2)).inputs.shape == inputmix(x, np.int64(2)).shape


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("name", [name for name in OPERATORS if name != "cutmix"])
def test_integers_are_refused_where_they_are_averaged(name, dtype):
    with pytest.raises(TypeError, match="floating-point"):
        OPERATORS[name](torch.zeros(4, 3, 2, 2, dtype=dtype))


@every_operator
def test_batches_that_cannot_be_mixed_are_refused(operator):
    with pytest.raises(ValueError, match="the batch is empty"):
        operator(torch.zeros(0, 3, 2, 2))
    for groups in (0, -1):
        with pytest.raises(ValueError, match=f"groups = {groups}: must be at least 1"):
            operator(torch.zeros(4, 3, 2, 2), groups=groups)
    with pytest.raises(ValueError, match="a batch of 4 does not divide into 3 groups"):
        operator(torch.zeros(4, 3, 2, 2), groups=3)
    with pytest.raises(TypeError, match="groups is of type float"):
        operator(torch.zeros(4, 3, 2, 2), groups=2.0)


def test_other_arguments_out_of_range_are_refused():
    for others in (0, -1):
        with pytest.raises(ValueError, match=f"others = {others}: must be at least 1"):
            inputmix(torch.zeros(4, 3), others)
    with pytest.raises(TypeError, match="others is of type float"):
        inputmix(torch.zeros(4, 3), 1.5)
    for shape in [(4, 3), (4, 3, 8), (4, 3, 0, 8)]:
        with pytest.raises(ValueError, match=r"must be \(N, C, H, W\)"):
            cutmix(torch.zeros(shape))
    with pytest.raises(ValueError, match="size = 0"):
        beta(1.0, 0)
    with pytest.raises(ValueError, match="parts = 0"):
        dirichlet(1.0, 4, 0)
    mixture = mixup(torch.zeros(4, 3))
    for groups in (0, 3):
        with pytest.raises(ValueError, match="groups"):
            mixing.mixes_hidden(torch.nn.Linear(3, 3), mixture, groups)


def test_reduced_losses_are_refused():
    logits, partner, lam = torch.randn(4, 4), torch.arange(4), torch.ones(4)
    reduced = {
        "mean": torch.nn.CrossEntropyLoss(),
        "sum": torch.nn.CrossEntropyLoss(reduction="sum"),
        "column": lambda logits, label: ce(logits)(label)[:, None],
        "row": lambda logits, label: ce(logits)(label)[None],
        "fewer": lambda logits, label: ce(logits)(label)[:-1],
    }
    for loss in reduced.values():
        with pytest.raises(ValueError, match='reduction="none"'):
            mixed_loss(lambda label, loss=loss: loss(logits, label), partner, lam)
    for wrong in [(partner[:3], lam), (partner[:0], lam[:0]), (partner, lam[0])]:
        with pytest.raises(ValueError, match="must both be"):
            mixed_loss(ce(logits), *wrong)


@pytest.mark.parametrize("name", [*OPERATORS, "mixed_loss"])
def test_operators_compile_into_one_graph(name):
    torch.compiler.reset()  # the graphs of other tests count against the limit of recompilations
    operator = OPERATORS.get(name, lambda logits: mixed_loss(ce(logits), *mixup(logits, 0.5)[1:]))
    graphs = []

    def counted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = torch.compile(operator, fullgraph=True, backend=counted)
    for size in (8, 8, 5, 6):
        x = torch.randn(size, size) if name == "mixed_loss" else torch.randn(size, 3, 9, 7)
        torch.manual_seed(size)
        expected = operator(x)
        torch.manual_seed(size)
        found = compiled(x)
        for a, b in zip(*([z] if isinstance(z, torch.Tensor) else z for z in (found, expected)), strict=True):
            assert torch.allclose(a, b)
    assert len(graphs) == 2  # for 8, then for any size


def test_the_package_imports_on_first_use():
    lazy = "import sys, imix; assert 'torch' not in sys.modules; imix.objectives.byol, imix.mixing.mixup, imix.mixup"
    subprocess.run([sys.executable, "-c", lazy], check=True)
    assert set(imix.__all__) <= set(dir(imix)) and all(getattr(imix, name) for name in imix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'mixdown'"):
        _ = imix.mixdown
