import pytest
import torch
from torch import nn

from imix.encoders import ResNet, TabularMLP

models = pytest.importorskip("torchvision.models")


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnet_is_torchvisions_with_a_cifar_stem(depth):
    theirs = getattr(models, f"resnet{depth}")(num_classes=1)
    theirs.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    theirs.maxpool = theirs.fc = nn.Identity()
    ours = ResNet(depth, 64, 3, 1)
    layers = [module for module in ours.modules() if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]
    for mine, their in zip(layers, _in_order(theirs), strict=True):
        mine.load_state_dict(their.state_dict())
    x = torch.randn(4, 3, 32, 32)
    for mode in (True, False):
        a, b = ours.train(mode)(x), theirs.train(mode)(x)
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-3)
    assert a.shape == (4, ours.features) and ours.features == (512 if depth < 50 else 2048)


def _in_order(resnet):
    """torchvision's layers, in the order conv, bn, conv, bn, ... of every block."""
    layers = [resnet.conv1, resnet.bn1]
    for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            for k in (1, 2, 3):
                if hasattr(block, f"conv{k}"):
                    layers += [getattr(block, f"conv{k}"), getattr(block, f"bn{k}")]
            layers += list(block.downsample or [])
    return layers


@pytest.mark.parametrize("depth,width,stride", [(10, 8, 2), (18, 4, 1), (101, 2, 1), (152, 2, 2)])
def test_any_depth_and_width(depth, width, stride):
    net = ResNet(depth, width, 1, stride)
    out = net(torch.randn(2, 1, 28, 28))
    assert out.shape == (2, net.features) and out.isfinite().all()
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


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
        torch.cat([x[:, :2] @ net.inputs[0].weight.T + net.inputs[0].bias, x[:, 2:] @ net.inputs[1].weight.T + net.inputs[1].bias], 1)
    )
    last = net.layers[-1](h)
    expected = torch.stack([last[:, f :: net.features] for f in range(net.features)], 1).amax(2)
    assert torch.allclose(net(x), expected)
