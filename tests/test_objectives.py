"""Every loss against a slow loop written from the equations, values and gradients to 1e-6."""

import pytest
import torch

from imix import mixed_loss, mixup, objectives

N, D, K, T = 6, 5, 7, 0.3


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def slow_n_pair(z, k, labels, groups):
    """labels: (N, N) mixed virtual labels; items contrast with the keys of their own group."""
    size, total = N // groups, 0.0
    for i in range(N):
        mine = range(i // size * size, i // size * size + size)
        denominator = sum(torch.exp(cosine(z[i], k[n]) / T) for n in mine)
        for n in mine:
            total = total - labels[i, n] * torch.log(torch.exp(cosine(z[i], k[n]) / T) / denominator)
    return total / N


def slow_moco(z, k, queue, labels, contrast):
    total = 0.0
    for i in range(N):
        old = sum(torch.exp(cosine(z[i], q) / T) for q in queue)
        for n in range(N):
            positive = torch.exp(cosine(z[i], k[n]) / T)
            fresh = sum(torch.exp(cosine(z[i], k[m]) / T) for m in range(N)) if contrast == "batch" else positive
            total = total - labels[i, n] * torch.log(positive / (fresh + old))
    return total / N


def slow_byol(z, k, labels):
    return sum(2 * labels[i].sum() - 2 * sum(labels[i, n] * cosine(z[i], k[n]) for n in range(N)) for i in range(N)) / N


def drawn(dtype=torch.float64):
    z, k, queue = torch.randn(N, D, dtype=dtype), torch.randn(N, D, dtype=dtype), torch.randn(K, D, dtype=dtype)
    _, partner, lam = mixup(torch.zeros(N, 1))
    lam = lam.double()
    return z.requires_grad_(), k.requires_grad_(), torch.nn.functional.normalize(queue, dim=1), partner, lam


@pytest.mark.parametrize("name", ["n_pair", "moco own", "moco batch", "byol"])
def test_losses_are_float32_whatever_the_encoders_precision(name):
    z, k, queue, partner, _ = drawn(torch.float32)
    losses = {
        "n_pair": lambda: objectives.n_pair(z, k.detach(), T),
        "moco own": lambda: objectives.moco(z, k.detach(), queue, T, "own"),
        "moco batch": lambda: objectives.moco(z, k.detach(), queue, T, "batch"),
        "byol": lambda: objectives.byol(z, k.detach()),
    }
    exact = losses[name]()(partner)
    with torch.autocast("cpu", torch.bfloat16):
        found = losses[name]()
    assert found(partner).dtype == torch.float32 and torch.equal(found(partner), exact)


@pytest.mark.parametrize("name", ["n_pair", "n_pair in two groups", "moco own", "moco batch", "byol"])
@pytest.mark.parametrize("mixing", [False, True])
def test_agrees_with_the_slow_loop(name, mixing):
    z, k, queue, partner, lam = drawn()
    groups = 2 if "groups" in name else 1
    if groups == 2:
        _, partner, _ = mixup(torch.zeros(N, 1), groups=2)
    if not mixing:
        lam = torch.ones(N, dtype=torch.float64)
    eye = torch.eye(N, dtype=torch.float64)
    labels = lam[:, None] * eye + (1 - lam[:, None]) * eye[partner]
    if name.startswith("n_pair"):
        fast = lambda a, b: objectives.n_pair(a, b, T, groups)
        slow = slow_n_pair(z, k, labels, groups)
    elif name.startswith("moco"):
        fast = lambda a, b: objectives.moco(a, b, queue.float(), T, name.split()[1])
        slow = slow_moco(z, k.detach(), queue, labels, name.split()[1])
    else:
        fast = objectives.byol
        slow = slow_byol(z, k.detach(), labels)
    z32, k32 = z.detach().float().requires_grad_(), k.detach().float().requires_grad_(name.startswith("n_pair"))
    loss = fast(z32, k32)
    value = mixed_loss(loss, partner, lam.float()) if mixing else loss(torch.arange(N)).mean()
    assert abs(float(value.detach()) - float(slow.detach())) < 1e-6
    value.backward()
    expected = torch.autograd.grad(slow, [z, k], allow_unused=True)
    assert (z32.grad - expected[0]).abs().max() < 1e-6
    if name.startswith("n_pair"):
        assert (k32.grad - expected[1]).abs().max() < 1e-6


@pytest.mark.parametrize("objective", [lambda z, k: objectives.moco(z, k, z.detach(), T, "own"), objectives.byol])
def test_keys_with_a_gradient_are_refused(objective):
    z = torch.randn(N, D, requires_grad=True)
    with pytest.raises(ValueError, match=r"keys require a gradient.*torch.no_grad"):
        objective(z, z * 2)


@pytest.mark.parametrize("contrast", ["Batch", "", None, "queue"])
def test_unknown_contrasts_are_refused(contrast):
    z = torch.randn(N, D)
    with pytest.raises(ValueError, match=r"contrast = .*: must be one of own, batch"):
        objectives.moco(z, z, z, T, contrast)


@pytest.mark.parametrize("temperature", [0, -0.1, float("nan"), float("inf")])
def test_temperatures_that_are_not_positive_are_refused(temperature):
    z = torch.randn(N, D)
    for objective in (
        lambda: objectives.n_pair(z, z, temperature),
        lambda: objectives.moco(z, z, z, temperature, "own"),
    ):
        with pytest.raises(ValueError, match=r"temperature = .*: must be positive and finite"):
            objective()


@pytest.mark.parametrize(
    "shapes", [((0, D), (0, D)), ((N, D), (N - 1, D)), ((N, D), (1, D)), ((N, D), (N, 1)), ((D,), (D,))]
)
def test_embeddings_that_do_not_fit_are_refused(shapes):
    z, k = (torch.randn(shape) for shape in shapes)
    queue = torch.randn(K, D)
    for objective in (
        lambda: objectives.n_pair(z, k, T),
        lambda: objectives.moco(z, k, queue, T, "own"),
        lambda: objectives.byol(z, k),
    ):
        with pytest.raises(ValueError, match=r"must all be \(N, D\) of one shape, with N at least 1"):
            objective()


def test_other_shapes_that_do_not_fit_are_refused():
    z = torch.randn(N, D)
    for queue in (torch.randn(0, D), torch.randn(K, 1), torch.randn(D)):
        with pytest.raises(ValueError, match=rf"queue .*: must be \(K, {D}\)"):
            objectives.moco(z, z, queue, T, "own")
    for groups in (0, -1, 4):
        with pytest.raises(ValueError, match=f"groups = {groups}: must be at least 1 and divide the batch of {N}"):
            objectives.n_pair(z, z, T, groups)
    for logits, labels in ((z, torch.arange(N - 1)), (z[:0], torch.arange(0)), (z[0], torch.arange(D))):
        with pytest.raises(ValueError, match=r"must be \(N, C\) and \(N,\)"):
            objectives.supervised(logits, labels)


def test_supervised_is_cross_entropy_with_the_classes_of_the_rows():
    logits, classes, rows = torch.randn(N, 3), torch.randint(3, (N,)), torch.randint(N, (N,))
    loss = objectives.supervised(logits, classes)
    for i in range(N):
        expected = -torch.log(logits[i].exp() / logits[i].exp().sum())[classes[rows[i]]]
        assert torch.isclose(loss(rows)[i], expected, atol=1e-6)


@pytest.mark.parametrize(
    "objective",
    [
        lambda z, k, q: objectives.n_pair(z, k, T),
        lambda z, k, q: objectives.moco(z, k, q, T, "own"),
        lambda z, k, q: objectives.moco(z, k, q, T, "batch"),
        lambda z, k, q: objectives.byol(z, k),
    ],
)
def test_equivariant_under_permutation(objective):
    z, k, q = torch.randn(N, D), torch.randn(N, D), torch.nn.functional.normalize(torch.randn(K, D), dim=1)
    order, label = torch.randperm(N), torch.randint(N, (N,))
    inverse = order.argsort()
    assert torch.allclose(
        objective(z[order], k[order], q)(inverse[label[order]]), objective(z, k, q)(label)[order], atol=1e-6
    )


def test_perfect_embeddings_lose_least():
    z = torch.eye(N)
    assert objectives.byol(z, 3 * z)(torch.arange(N)).abs().max() < 1e-6
    own, other = (objectives.n_pair(z, z, T)(label) for label in (torch.arange(N), torch.arange(N).roll(1)))
    assert (own < other).all()
