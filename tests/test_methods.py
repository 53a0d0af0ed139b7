import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from imix import domains, mixed_loss, mixup, objectives, plugins
from imix.methods.base import KeyEncoder, head, per_group

METHODS = plugins.names("methods")
BASE = {
    "augmentation": "augmented",
    "encoder": {"width": 0.01},
    "views": {"masking": [0.0, 0.0]},
    "mix": "none",
    "epochs": 5,
    "batch_size": 8,
    "groups": 1,
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "schedule": "cosine",
    "milestones": [],
    "embedding": 6,
    "projection": "mlpbn",
    "precision": "float32",
    "compile": False,
    "inputmix": 0,
    "fraction": 1.0,
    "shared_lam": False,
    "mix_inputs": "first",
    "mix_depth": "input",
    "mix_labels": True,
    "symmetric": False,
    "knn_every": 1,
}
OWN = {
    "npair": {"temperature": 0.2},
    "moco": {"temperature": 0.2, "ema": 0.9, "queue": 20, "contrast": "batch"},
    "byol": {"ema": 0.9, "predictor": "mlpbn1"},
    "supervised": {},
}


class Encoder(nn.Sequential):
    features = 10

    def __init__(self):
        super().__init__(nn.Linear(4, 10), nn.BatchNorm1d(10), nn.ReLU())


def make(name, **changes):
    settings = domains.training_class(name, "tabular").model_validate(BASE | OWN[name] | changes)
    return plugins.find("methods", name).Method(Encoder(), settings, classes=4)


def test_every_method_is_tested():
    assert set(METHODS) == set(OWN)
    assert all(plugins.find("methods", name).TITLE for name in METHODS)


@pytest.mark.parametrize("kind,layers", [("linear", 1), ("mlp", 3), ("mlpbn1", 4), ("mlpbn", 5)])
def test_heads(kind, layers):
    module = head(kind, 4, 7, 3)
    assert len(list(module.modules())) - (layers > 1) == layers
    assert module(torch.randn(5, 4)).shape == (5, 3)


@pytest.mark.parametrize("name", METHODS)
def test_lam_one_and_identity_partner_is_plain(name):
    view1, view2 = torch.randn(2, 8, 4)
    plain = make(name)
    mixed = copy.deepcopy(plain)
    if plain.supervised:
        view2 = torch.randint(4, (8,))
    own = torch.arange(8)
    plain(view1, view2, torch.Generator())(own).mean().backward()
    mixed_loss(mixed(view1, view2, torch.Generator()), own, torch.ones(8)).backward()
    for a, b in zip(plain.parameters(), mixed.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.equal(a.grad, b.grad)


@pytest.mark.parametrize("name", ["moco", "byol"])
@pytest.mark.parametrize("mixing", [False, True])
def test_no_gradient_into_keys_or_queue(name, mixing):
    method = make(name)
    view1, view2 = torch.randn(8, 4), torch.randn(8, 4, requires_grad=True)
    mixed, partner, lam = mixup(view1)
    loss = method(mixed if mixing else view1, view2, torch.Generator())
    (mixed_loss(loss, partner, lam) if mixing else loss(torch.arange(8)).mean()).backward()
    assert view2.grad is None
    assert all(p.grad is None and not p.requires_grad for p in method.keys.parameters())
    assert name == "byol" or method.queue.grad is None
    assert all(p.grad is not None for p in method.encoder.parameters())


def test_n_pair_is_one_pass_over_both_views():
    method = make("npair")
    view1, view2 = torch.randn(2, 8, 4)
    loss = method(view1, view2, torch.Generator())
    reference = copy.deepcopy(method)
    z = reference.projection(reference.encoder(torch.cat([view1, view2])))
    label = torch.randint(8, (8,))
    assert torch.allclose(loss(label), objectives.n_pair(z[:8], z[8:], 0.2)(label))
    assert method.encoder[1].num_batches_tracked == 1


def test_two_groups_are_two_processors():
    one, two = make("npair"), make("npair", groups=2)
    two.load_state_dict(one.state_dict())
    view1, view2 = torch.randn(2, 8, 4)
    halves = [one(view1[h], view2[h], torch.Generator())(torch.arange(4)) for h in (slice(4), slice(4, 8))]
    assert torch.allclose(two(view1, view2, torch.Generator())(torch.arange(8)), torch.cat(halves))


def test_shuffled_keys_are_put_back(generator):
    network = nn.Linear(4, 3)
    keys = KeyEncoder(network, 0.9)
    x = torch.randn(8, 4)
    assert torch.allclose(keys(x, 2, generator), network(x))
    mixes_groups = KeyEncoder(nn.BatchNorm1d(4), 0.9)
    unshuffled = per_group(copy.deepcopy(mixes_groups.network), x, 2)
    assert not torch.allclose(mixes_groups(x, 2, generator), unshuffled)


@pytest.mark.parametrize("name", ["moco", "byol"])
@pytest.mark.parametrize("groups", [1, 2])
def test_only_groups_see_the_shuffle_of_the_keys(name, groups):
    method = make(name, groups=groups)
    view1, view2 = torch.randn(2, 8, 4)
    shuffles = [torch.Generator().manual_seed(seed) for seed in range(3)]
    losses = [copy.deepcopy(method)(view1, view2, shuffle)(torch.arange(8)) for shuffle in shuffles]
    assert all(torch.equal(losses[0], loss) for loss in losses) == (groups == 1)


def test_key_encoder_averages_parameters_only():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    keys = KeyEncoder(network, 0.9)
    before = [p.clone() for p in keys.parameters()]
    with torch.no_grad():
        for p in network.parameters():
            p.add_(1.0)
        network[1].running_mean.add_(5.0)
    keys.follow(network)
    for old, new in zip(before, keys.parameters(), strict=True):
        assert torch.allclose(new, old + 0.1)
    assert (keys.network[1].running_mean == 0).all()


def test_key_encoder_matches_the_formula_over_many_steps():
    network, momentum = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), 0.97
    keys = KeyEncoder(network, momentum)
    expected = [p.detach().double().clone() for p in network.parameters()]
    for _ in range(20):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn_like(p))
        keys.follow(network)
        expected = [
            momentum * k + (1 - momentum) * p.double() for k, p in zip(expected, network.parameters(), strict=True)
        ]
    for key, value in zip(keys.parameters(), expected, strict=True):
        assert torch.allclose(key.double(), value, atol=1e-5) and not key.requires_grad


def test_key_encoder_has_batch_statistics_of_its_own():
    network = nn.BatchNorm1d(4)
    keys, x = KeyEncoder(network, 0.9), torch.randn(8, 4) + 3
    keys(x, 1, torch.Generator())
    keys.follow(network)
    assert torch.allclose(keys.network.running_mean, 0.1 * x.mean(0)) and (network.running_mean == 0).all()


def test_key_encoder_follows_its_own_network():
    method = make("moco", ema=0.0)
    with torch.no_grad():
        for p in method.encoder.parameters():
            p.mul_(2.0)
    method.follow()
    for a, b in zip(method.keys.network[0].parameters(), method.encoder.parameters(), strict=True):
        assert torch.equal(a, b)


def test_queue_is_a_ring_that_turns_after_the_logits():
    method = make("moco")
    first = method.queue.clone()
    loss = method(torch.randn(8, 4), torch.randn(8, 4), torch.Generator())
    with_old = loss(torch.arange(8)).detach()
    assert not torch.equal(method.queue[:8], first[:8]) and torch.equal(method.queue[8:], first[8:])
    assert torch.equal(loss(torch.arange(8)), with_old) and int(method.pointer) == 8
    for _ in range(2):
        method(torch.randn(8, 4), torch.randn(8, 4), torch.Generator())
    assert int(method.pointer) == 4  # 24 modulo 20
    assert torch.allclose(method.queue.norm(dim=1), torch.ones(20))


def cross_entropy(logits, label):
    """Of one row, written out."""
    return -(logits[label] - logits.exp().sum().log())


def cosine(a, b):
    return a @ b / a.norm() / b.norm()


def test_n_pair_is_the_loop():
    method = make("npair", groups=2)
    view1, view2, label = torch.randn(8, 4), torch.randn(8, 4), torch.tensor([1, 0, 3, 2, 6, 4, 7, 5])
    loss, network = method(view1, view2, torch.Generator())(label), copy.deepcopy(method.network())
    for block in (range(4), range(4, 8)):
        z = network(torch.cat([view1[block], view2[block]]))
        for row in range(4):
            logits = torch.stack([cosine(z[row], z[4 + key]) / 0.2 for key in range(4)])
            assert torch.allclose(loss[block[row]], cross_entropy(logits, label[block[row]] - block[0]), atol=1e-5)


@pytest.mark.parametrize("contrast", ["own", "batch"])
def test_moco_is_the_loop(contrast):
    method = make("moco", contrast=contrast)
    queue, view1, view2 = method.queue.clone(), torch.randn(8, 4), torch.randn(8, 4)
    anchors, keys = (
        copy.deepcopy(net)(view) for net, view in ((method.network(), view1), (method.keys.network, view2))
    )
    label = torch.tensor([1, 0, 3, 2, 6, 4, 7, 5])
    loss = method(view1, view2, torch.Generator())(label)
    for row in range(8):
        batch = [keys[label[row]]] if contrast == "own" else list(keys)
        logits = torch.stack([cosine(anchors[row], key) / 0.2 for key in [*batch, *queue]])
        assert torch.allclose(loss[row], cross_entropy(logits, 0 if contrast == "own" else label[row]), atol=1e-5)
    assert torch.allclose(method.queue[:8], F.normalize(keys.detach(), dim=1), atol=1e-6)


def test_byol_is_the_loop():
    method, view1, view2 = make("byol"), torch.randn(8, 4), torch.randn(8, 4)
    online = copy.deepcopy(nn.Sequential(method.network(), method.predictor))(view1)
    keys, label = copy.deepcopy(method.keys.network)(view2), torch.tensor([1, 0, 3, 2, 6, 4, 7, 5])
    loss = method(view1, view2, torch.Generator())(label)
    for row in range(8):
        assert torch.allclose(loss[row], 2 - 2 * cosine(online[row], keys[label[row]]), atol=1e-5)


def test_supervised_training_projects_to_classes_and_is_the_loop():
    method, view, labels = make("supervised", projection="linear"), torch.randn(8, 4), torch.randint(4, (8,))
    logits = copy.deepcopy(method.network())(view)
    loss = method(view, labels, torch.Generator())(torch.arange(8).flip(0))
    for row in range(8):  # its virtual label is a row, whose class counts
        assert torch.allclose(loss[row], cross_entropy(logits[row], labels[7 - row]), atol=1e-5)
    assert logits.shape == (8, 4) and method.keys is None
