import copy

import pytest
import torch
from torch import nn

from imix import mixed_loss, mixup, objectives
from imix.methods import METHODS, KeyEncoder, head, per_group
from imix.settings import PRETRAINING

BASE = {
    "encoder": {"kind": "mlp", "width": 0.01},
    "views": {"kind": "tabular", "masking": [0.0, 0.0]},
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
    "inputmix": 0,
    "fraction": 1.0,
    "augment": True,
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


def make(name, **changes):
    settings = PRETRAINING[name].model_validate(BASE | OWN[name] | changes)
    return METHODS[name](nn.Sequential(nn.Linear(4, 10), nn.BatchNorm1d(10), nn.ReLU()), 10, settings, classes=4)


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
    losses = [copy.deepcopy(method)(view1, view2, torch.Generator().manual_seed(seed))(torch.arange(8)) for seed in range(3)]
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
