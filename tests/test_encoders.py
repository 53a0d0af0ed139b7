import copy

import pytest
import torch
from torch import nn
from torchvision import models

from imix.encoders.mlp import TabularMLP
from imix.encoders.resnet import ResNet
from imix.errors import UserError
from imix.schema import validated


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_is_torchvisions_with_a_cifar_stem(depth):
    theirs = getattr(models, f"resnet{depth}")(num_classes=1)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = theirs.fc = nn.Identity()
    ours = ResNet(depth, 64, 3, 1)
    layers, their_layers = (
        [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
        for network in (ours, theirs)
    )
    for mine, their in zip(layers, their_layers, strict=True):
        mine.load_state_dict(their.state_dict())
    x = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        a, b = ours.train(mode)(x), theirs.train(mode)(x)
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3)
    assert a.shape == (4, ours.features) and ours.features == (512 if depth < 50 else 2048)


def test_kaiming_init_and_memory_format():
    torch.manual_seed(0)
    for module in ResNet(18, 64, 3, 1).modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.out_channels * module.kernel_size[0] ** 2
            assert abs(module.weight.std() / (2 / fan_out) ** 0.5 - 1) < 0.05
            assert module.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("depth,width,stride", [(10, 8, 2), (18, 4, 1), (101, 2, 1), (152, 2, 2)])
def test_any_depth_and_width(depth, width, stride):
    net = ResNet(depth, width, 1, stride)
    out = net(torch.randn(2, 1, 28, 28))
    assert out.shape == (2, net.features) and out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert len(net.blocks) == sum({10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}[depth])


def test_tabular_network_is_the_papers():
    net = TabularMLP((10, 4, 40), 1.0)
    assert net.features == 2048
    assert [tuple(m.weight.shape) for m in net.modules() if isinstance(m, nn.Linear)] == [
        (64, 10),
        (64, 4),
        (64, 40),
        (2048, 192),
        (2048, 2048),
        (4096, 2048),
        (4096, 4096),
        (8192, 4096),
    ]
    assert 61e6 < sum(p.numel() for p in net.parameters()) < 66e6


def test_maxout_and_groups_by_hand():
    net = TabularMLP((2, 1), 1 / 64).eval()
    x = torch.randn(3, 3)
    h = net.layers[:-1](
        torch.cat(
            [
                x[:, :2] @ net.inputs[0].weight.T + net.inputs[0].bias,
                x[:, 2:] @ net.inputs[1].weight.T + net.inputs[1].bias,
            ],
            1,
        )
    )
    last = net.layers[-1](h)
    expected = torch.stack([last[:, f :: net.features] for f in range(net.features)], 1).amax(2)
    assert torch.allclose(net(x), expected)


@pytest.mark.parametrize(
    "network",
    [
        ResNet.make(ResNet.Settings(depth=18, width=2, stem_stride=1), (3, 8, 8), ()),
        TabularMLP.make(TabularMLP.Settings(width=0.01), (9,), (4, 5)),
    ],
)
def test_made_from_settings(network):
    x = torch.randn(4, 3, 8, 8) if isinstance(network, ResNet) else torch.randn(4, 9)
    assert network(x).shape == (4, network.features)
    seen = []
    copied = copy.deepcopy(network)
    for block in copied.blocks:  # a copy's blocks are its own layers
        block.register_forward_pre_hook(lambda module, inputs: seen.append(module))
    copied(x)
    assert seen == copied.blocks and len(seen) == (8 if isinstance(network, ResNet) else 5)


def test_column_groups_must_add_up():
    with pytest.raises(ValueError, match=r"column groups \(4, 5\) must add up to the 10 columns"):
        TabularMLP.make(TabularMLP.Settings(width=0.01), (10,), (4, 5))
    with pytest.raises(ValueError, match="no column groups"):
        TabularMLP((), 1.0)


@pytest.mark.parametrize(
    "encoder,settings,message",
    [
        (ResNet, dict(depth=17, width=4, stem_stride=1), "depth = 17: must be 10, 18, 34, 50, 101 or 152"),
        (ResNet, dict(depth=18, width=0, stem_stride=1), "width = 0: must be a whole number from 1 to 4,096"),
        (ResNet, dict(depth=18, width=4, stem_stride=1, kind="resnet"), "kind"),
        (TabularMLP, dict(width=0.0), "width = 0.0: must be a number from 0.0001 to 64"),
    ],
)
def test_settings_out_of_range_are_refused(encoder, settings, message):
    with pytest.raises(UserError, match=message):
        validated(encoder.Settings, settings, "params.yaml")
