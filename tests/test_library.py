"""The library in other people's loops: what it imports, precisions, layouts, several processes; examples; estimator."""

import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator
from torch import nn

import imix
from imix import encoding, mixing, objectives
from imix.sklearn import METHODS, RECIPE, Encoder
from tests.conftest import ROOT

TINY = {"encoder": {"width": 0.005}}


def losses(anchors, keys):
    queue = F.normalize(torch.randn(16, anchors.shape[1]), dim=1)
    constant = keys.detach()
    return [
        objectives.n_pair(anchors, keys, 0.2),
        objectives.byol(anchors, constant),
        *(objectives.moco(anchors, constant, q, 0.2, "own") for q in (queue, queue.to(keys.dtype))),
        objectives.moco(anchors, constant, queue, 0.2, "batch"),
        objectives.supervised(anchors, torch.arange(len(anchors)) % 3),
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_loss_takes_every_precision(dtype):
    z, keys = torch.randn(8, 4, dtype=dtype, requires_grad=True), torch.randn(8, 4, dtype=dtype)
    _, partner, lam = imix.mixup(torch.randn(8, 3, dtype=dtype))
    for loss in losses(z, keys):
        value = imix.mixed_loss(loss, partner, lam)
        value.backward()
        assert value.dtype == torch.float32 and z.grad.dtype == dtype and z.grad.isfinite().all()


def test_autocast():
    layer = nn.Linear(12, 4)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, partner, lam = imix.mixup(torch.randn(8, 12))
        assert mixed.dtype == lam.dtype == torch.float32
        for loss in losses(layer(mixed), layer(torch.randn(8, 12))):
            assert imix.mixed_loss(loss, partner, lam).dtype == torch.float32


def test_operators_keep_channels_last():
    images = torch.randn(8, 3, 6, 6).to(memory_format=torch.channels_last)
    found = [imix.mixup(images).inputs, imix.cutmix(images).inputs, *(imix.inputmix(images, n) for n in (1, 2))]
    assert all(mixed.is_contiguous(memory_format=torch.channels_last) for mixed in found)


def gradient(model, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 5, generator=generator)
    mixed, partner, lam = imix.mixup(inputs, generator=generator)
    imix.mixed_loss(objectives.n_pair(model(mixed), model(inputs), 0.5), partner, lam).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def worker(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = nn.parallel.DistributedDataParallel(nn.Linear(5, 4))
    torch.save(gradient(model, rank), f"{folder}/{rank}")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform != "linux", reason="needs gloo and fork")
def test_processes_average_their_gradients(tmp_path):
    torch.multiprocessing.start_processes(worker, (str(tmp_path),), nprocs=2, start_method="fork")
    alone = []
    for rank in (0, 1):
        torch.manual_seed(0)
        alone.append(gradient(nn.Linear(5, 4), rank))
    for rank in (0, 1):
        assert torch.allclose(torch.load(tmp_path / str(rank)), sum(alone) / 2, atol=1e-6)


def test_mixing_and_objectives_need_torch_alone():
    code = (
        "import sys, imix; imix.mixup, imix.objectives.moco, dir(imix)\n"
        "from imix import mixed_loss, mixing\n"
        "print({name.split('.')[0] for name in sys.modules} & set(sys.argv[1:]))"
    )
    others = ("pydantic", "pandas", "sklearn", "dvc", "ruamel", "safetensors", "scipy", "torchvision", "torchaudio")
    done = subprocess.run([sys.executable, "-c", code, *others], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imix.encoding", None)
    monkeypatch.delattr(imix, "encoding", raising=False)
    with pytest.raises(ImportError, match=r"imix.load_encoder needs imix.encoding: pip install 'imix\[study\]'"):
        _ = imix.load_encoder


def test_every_public_function_has_an_example():
    public = [getattr(mixing, name) for name in imix.__all__ if hasattr(mixing, name)]
    public += [getattr(objectives, name) for name in ("n_pair", "moco", "byol", "supervised")]
    public += [mixing.blend, mixing.mixes_hidden, encoding.load_encoder, Encoder]
    assert not [each.__name__ for each in public if ">>>" not in each.__doc__]


# --- examples


def run_example(name, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    assert len((ROOT / "examples" / name).read_text().splitlines()) < 60
    runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
    return capsys.readouterr().out


def test_the_plain_loop(monkeypatch, capsys):
    assert "i-Mix: " in run_example("plain_loop.py", monkeypatch, capsys, 20)


def test_lightly(monkeypatch, capsys):
    pytest.importorskip("lightly", reason="lightly is not installed")
    pytest.importorskip("pytorch_lightning", reason="pytorch-lightning is not installed")
    assert "loss " in run_example("lightly_moco.py", monkeypatch, capsys, 1)


def test_a_csv_of_ones_own(monkeypatch, capsys, tmp_path):
    size = [*np.arange(59.0) % 7, None]
    raw = pd.DataFrame({"size": size, "colour": ["red", "blue"] * 30, "kind": ["a", "b", "c"] * 20})
    raw.to_csv(tmp_path / "raw.csv", index=False)
    monkeypatch.chdir(tmp_path)
    assert "mix imix: accuracy" in run_example("own_table.py", monkeypatch, capsys, "raw.csv", "kind", 5)
    encoder = imix.load_encoder("encoder.safetensors")
    assert encoder(encoder.prepare(raw)).shape == (60, 128)


# --- scikit-learn


CHECKS = [
    pytest.param(estimator, check, id=check.func.__name__)
    for estimator, check in estimator_checks_generator(Encoder(steps=1, random_state=0, settings=TINY))
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("estimator,check", CHECKS)
def test_scikit_learns_checks(estimator, check):
    """All of them; that of array API inputs runs only where scipy's support for these is on."""
    check(estimator)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mix", ["none", "imix"])
def test_an_encoder_in_a_pipeline(method, mix):
    rows = np.random.default_rng(0).standard_normal((60, 3))
    model = make_pipeline(Encoder(method, mix, steps=5, random_state=0, settings=TINY), LogisticRegression())
    assert model.fit(rows, rows[:, 0] > 0).predict(rows).shape == (60,)
    assert len(model[0].history_) == 5


def test_the_callers_random_numbers_and_precision_stay(tmp_path):
    rows, precision = np.random.default_rng(0).standard_normal((40, 3)), torch.backends.fp32_precision
    before = torch.get_rng_state()
    encoder = Encoder(steps=1, random_state=0, settings=TINY).fit(rows)
    assert (torch.get_rng_state() == before).all() and torch.backends.fp32_precision == precision
    encoder.save(tmp_path / "e.safetensors")
    loaded = encoding.load_encoder(tmp_path / "e.safetensors")
    found = loaded(loaded.prepare(pd.DataFrame(rows, columns=["x0", "x1", "x2"]))).detach()
    assert np.allclose(found, encoder.transform(rows), atol=1e-5)


@pytest.mark.parametrize("wrong", [{"method": "simclr"}, {"mix": "mixup"}, {"settings": {"temprature": 1}}])
def test_wrong_settings_of_an_encoder(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "settings" not in wrong else "temprature"):
        Encoder(**({"steps": 1} | wrong)).fit(np.random.default_rng(0).standard_normal((20, 2)))


def test_the_recipe_is_that_of_params_yaml():
    from imix.settings import text

    raw = text.read(ROOT / "params.yaml")
    table = raw["defaults"] | raw["recipe"]["own"] | raw["recipe"]["table"]
    assert {key: table[key] for key in RECIPE if key in table} == {k: v for k, v in RECIPE.items() if k in table}
