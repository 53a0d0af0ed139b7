"""The documentation: the site builds without a warning, its examples run, and generated pages are up to date."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from imix import domains, plugins, pretraining
from imix.reporting import parameters
from imix.settings import text
from tests.conftest import ROOT
from tests.test_page import small

DOCS = ROOT / "docs"


def example(title):
    """Run the module of docs/extending.md that has this title, as the module of the package that it would be."""
    source = re.search(rf'```python title="{re.escape(title)}"\n(.*?)```', (DOCS / "extending.md").read_text(), re.S)[1]
    name = title.removesuffix(".py").replace("/", ".")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader=None))
    sys.modules[name] = module
    exec(compile(source, title, "exec"), module.__dict__)
    return module


@pytest.fixture(autouse=True)
def forgotten():
    yield
    for name in ("imix.datasets.moons", "imix.methods.euclid", "imix.views.signs"):
        sys.modules.pop(name, None)


def declares(module, package):
    return all(hasattr(module, name) for name in plugins.DECLARED[package])


def test_the_example_of_a_data_set(tmp_path):
    moons = example("imix/datasets/moons.py")
    assert declares(moons, "datasets")
    source = moons.Source(name="moons", noise=0.1)
    rows = moons.Rows(train=400, validation=0.2, test=1000, seed=0)
    moons.fetch(source, tmp_path)
    splits = moons.read(source, rows, tmp_path)
    form = moons.form(source, rows)
    assert {name: len(part) for name, part in splits.inputs.items()} == {"train": 320, "validation": 80, "test": 1000}
    assert form.shape == (2,) and splits.inputs["train"].dtype == np.dtype(form.dtype)


@pytest.mark.parametrize("mix", ["none", "imix"])
def test_the_examples_of_a_method_and_a_domain_train(mix, monkeypatch):
    euclid, signs = example("imix/methods/euclid.py"), example("imix/views/signs.py")
    assert declares(euclid, "methods") and declares(signs, "views")
    find = plugins.find
    ours = {("methods", "euclid"): euclid, ("views", "signs"): signs}
    monkeypatch.setattr(
        plugins, "find", lambda package, name, where="": ours.get((package, name)) or find(package, name)
    )
    rows = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    data = small("signs", ["a", "b"], rows, numbers=4, column_groups=[4], mean=rows.mean(0), std=rows.std(0))
    defaults = text.read(ROOT / "params.yaml")["defaults"]
    fields = domains.training_class.__wrapped__("euclid", "signs").model_fields
    chosen = {key: value for key, value in defaults.items() if key in fields and key != "alpha"}
    chosen |= {"alpha": 1.0} if mix == "imix" else {}
    chosen |= {"epochs": 2, "warmup_epochs": 0, "batch_size": 8, "projection": "linear", "views": {"flip": 0.2}}
    chosen |= {"encoder": {"width": 0.0625}, "augmentation": "augmented", "mix": mix}
    settings = domains.training_class.__wrapped__("euclid", "signs").model_validate(chosen)
    training = pretraining.Training(data, "euclid", settings, 0)
    pretraining.run(training, "euclid")
    assert len(training.history) == 2 and training.history[1]["loss"] < 10


def test_every_default_of_the_file_is_explained():
    page = parameters.markdown(ROOT / "params.yaml")
    for key in text.read(ROOT / "params.yaml")["defaults"]:
        assert f"| `{key}` |" in page or key in (*plugins.names("methods"), "probe"), key
    assert "|  |\n" not in page, "a key without a meaning: a comment in the schema, or parameters.MEANINGS"
    assert "| `temperature` | a number from 0.001 to 1000 | `0.2` |" in page


def test_links_out_of_the_documentation_lead_to_files():
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings", reason="imix[docs] is not installed")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path), strict=True))
    pictures = (ROOT / "docs/evidence.md").read_text().count("\n![")
    assert (tmp_path / "evidence.html").read_text().count('src="data:image/png;base64,') == pictures > 0
    assert "mixup" in (tmp_path / "method.html").read_text() and (tmp_path / "parameters.html").is_file()
    assert not re.findall(r'(?:src|href)="https?://(?:fonts|unpkg|cdn)', Path(tmp_path / "index.html").read_text())
