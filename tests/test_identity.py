"""What a fingerprint of code depends on: tokens the same on every Python, and the modules that can change a result."""

import graphlib
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from imix import identity, plugins
from imix.tokens import tokens
from tests.conftest import ROOT

VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
CODE = '''
"""A module."""

import os


class Thing:
    """A thing."""

    size = 1

    def area(self, scale, *rest):
        """Return the area."""
        if scale:
            total = self.size * scale
            return [
                total, f"{total:>{self.size}} of {rest}",
            ]
        return None  # nothing
'''


def changed(old, new):
    assert CODE.count(old) == 1
    return CODE.replace(old, new)


SAME = {
    "a comment": changed("size = 1", "size = 1  # of a side"),
    "a comment of its own": changed("        if scale:\n", "        # look\n        if scale:\n"),
    "a comment that is not indented": changed("        if scale:\n", "# look\n        if scale:\n"),
    "no comment": changed("  # nothing", ""),
    "a docstring": changed("Return the area.", "Return what the area is.\n\n        In pixels.\n        "),
    "no docstring of a function": changed('        """Return the area."""\n', ""),
    "no docstring of a class": changed('    """A thing."""\n', ""),
    "another docstring of the module": changed('"""A module."""', "'''Another.'''"),
    "blank lines": changed("import os\n", "\n\n\nimport os\n\n"),
    "blank lines in a function": changed("        if scale:\n", "\n        \n        if scale:\n"),
    "a line break in brackets": changed("(self, scale, *rest)", "(\n        self,\n        scale, *rest)"),
    "no line break in brackets": changed("[\n                total, f", "[total, f"),
    "a comment in brackets": changed("                total, f", "                total,  # first\n                f"),
    "a continued line": changed("total = self.size", "total = \\\n                self.size"),
    "spaces": changed("self.size * scale", "self.size*scale"),
    "a wider indent": CODE.replace("    ", "  "),
    "no line break at the end": CODE.rstrip("\n"),
    "a comment at the end": CODE + "# the end",
    "a string by itself": changed("        if scale:\n", "        'no comment' \"either\"\n        if scale:\n"),
    "lines that end as on Windows": CODE.replace("\n", "\r\n"),
}
OTHER = {
    "a number": changed("size = 1", "size = 2"),
    "a name": changed("size = 1", "side = 1"),
    "an operator": changed("self.size * scale", "self.size + scale"),
    "a string": changed(" of {rest}", " in {rest}"),
    "an expression in an f-string": changed("{rest}", "{scale}"),
    "a nested expression in an f-string": changed("{self.size}}", "{scale}}"),
    "a space in a string": changed(" of {rest}", "  of {rest}"),
    "indentation": changed("        return None", "            return None"),
    "a line less": changed("import os\n", ""),
    "a line more": changed("import os\n", "import os\nimport sys\n"),
    "two statements for one": changed("total = self.size * scale", "total = self.size\n            scale"),
    "code in a comment": changed("    size = 1", "    # size = 1"),
    "an f-string by itself, which runs": changed("        if scale:\n", "        f'{os.abort()}'\n        if scale:\n"),
    "a comma": changed("{rest}\",\n", "{rest}\"\n"),
}  # fmt: skip


@pytest.mark.parametrize("source", SAME.values(), ids=SAME)
def test_what_does_nothing_does_not_count(source):
    assert tokens(source) == tokens(CODE)


@pytest.mark.parametrize("source", OTHER.values(), ids=OTHER)
def test_what_changes_the_code_counts(source):
    assert tokens(source) != tokens(CODE)


HARD = '''
# -*- coding: utf-8 -*-
"""Übung: a docstring with {braces}."""
def f(a, b=3):
    r"""another"""
    if a:
        # deeper
        return f"é {a!r:>{b}} {'x' + f'{b}'} ü" f"{a}"  # comment
      # at no level
    y = f"""é multi {a
        + 1} line
    more {b=} ü {{}} # no comment""" + rf'\\d{a}' + 'tail é'
    z = (a
         + b)  # comment

    return y, z, \\
        a
s = """a
    # no comment
"""; t = "a" "b"
ü = F'{s}' if s else b"bytes"; 変 = f"{ü}變{ü!s:*^10}" + Rb"x".decode() + fR"{'a' if s else 'b'}\\n"
long = f"{ {'key': (lambda x: x)(1)}['key'] :{'>'}{10}} {s:%Y-%m}"
async def g(): "doc"; await h()
match = lambda *a, **k: (a, k)
@match
class A(
    object, # base
): x: int = 0x_ff; y = 1_000.5e-3j
'''


@pytest.mark.parametrize("version", VERSIONS)
def test_tokens_are_the_same_on_every_python(version, tmp_path):
    """By the module alone: these interpreters need no package."""
    found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} in ~/.pyenv/versions")
    sources = [*CASES, *(path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("imix/**/*.py")))]
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    script = """
        import json, sys
        module = {}
        exec(compile(open(sys.argv[1], encoding="utf-8").read(), "tokens", "exec"), module)
        sources = json.load(open(sys.argv[2]))
        print(json.dumps([module["tokens"](source) for source in sources]))
    """
    command = [found[-1], "-I", "-c", textwrap.dedent(script), ROOT / "imix/tokens.py", tmp_path / "sources.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for source, mine, theirs in zip(sources, map(tokens, sources), json.loads(done.stdout), strict=True):
        assert theirs == mine, source


CASES = [HARD, *SAME.values(), *OTHER.values()]


def test_an_f_string_is_one_token():
    found = tokens(HARD)
    assert """f"é {a!r:>{b}} {'x' + f'{b}'} ü\"""" in found
    assert any(token.startswith('f"""é multi {a\n') and token.endswith('# no comment"""') for token in found)
    assert 'f"{ü}變{ü!s:*^10}"' in found and "# comment" not in " ".join(found).replace("# no comment", "")


# --- which modules count


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that edits a file of a fresh copy of the code, if any, and does some work on the copy."""

    def fingerprint(work, file=None, edit="ADDED = 1\n"):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name in ("imix", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        if file:
            path = folder / file
            before = path.read_text() if path.exists() else ""
            path.write_text(edit(before) if callable(edit) else before + edit)
        monkeypatch.setattr(identity, "ROOT", folder)
        identity.fingerprint.cache_clear()
        result = work()
        identity.fingerprint.cache_clear()
        return result

    return fingerprint


def training():
    return identity.training_code("moco", "tabular")


def evaluation():
    return identity.evaluation_code("tabular")


NEEDED = [
    "mixing", "objectives", "methods/moco", "methods/base", "views/tabular", "views/base", "encoders/mlp", "features",
    "pretraining", "dataset", "domains", "checkpoints", "runtime", "arithmetic", "sending",
]  # fmt: skip
NOT_NEEDED = [
    "imix/methods/byol.py", "imix/methods/npair.py", "imix/methods/supervised.py", "imix/views/image.py",
    "imix/views/speech.py", "imix/encoders/resnet.py", "imix/datasets/diamonds.py", "imix/datasets/mnist.py",
    "imix/sources.py", "imix/archives.py", "imix/evaluation.py", "imix/schema.py", "imix/plugins.py",
    "imix/identity.py", "imix/tokens.py", "imix/store.py", "imix/running.py", "imix/progress.py",
    "imix/errors.py", "imix/files.py", "imix/paths.py",
    "imix/jobs.py", "imix/__init__.py", "imix/__main__.py", "imix/settings/merging.py", "imix/settings/loading.py",
    "imix/planning/__init__.py", "imix/reporting/tables.py", "imix/reporting/results.py", "stages/pretrain.py",
    "stages/report.py", "stages/settings.py", "imix/methods/new.py", "imix/views/new.py", "imix/datasets/new.py",
]  # fmt: skip


@pytest.mark.parametrize("module", NEEDED)
def test_a_training_depends_on(package, module):
    assert package(training, f"imix/{module}.py") != package(training)
    assert package(training, f"imix/{module}.py", "# a comment\n") == package(training)


@pytest.mark.parametrize("file", NOT_NEEDED)
def test_a_training_does_not_depend_on(package, file):
    assert package(training, file) == package(training)


@pytest.mark.parametrize(
    "module", ["evaluation", "features", "checkpoints", "runtime", "dataset", "views/tabular", "encoders/mlp"]
)
def test_an_evaluation_depends_on(package, module):
    assert package(evaluation, f"imix/{module}.py") != package(evaluation)


@pytest.mark.parametrize(
    "module", ["pretraining", "mixing", "methods/moco", "views/image", "encoders/resnet", "sources", "jobs"]
)
def test_an_evaluation_does_not_depend_on(package, module):
    assert package(evaluation, f"imix/{module}.py") == package(evaluation)


@pytest.mark.parametrize(
    "source,depends,does_not",
    [
        (
            "diamonds",
            ["sources", "datasets/diamonds"],
            ["datasets/mnist", "encoders/mlp", "views/tabular", "dataset", "objectives"],
        ),
        (
            "cifar100",
            ["sources", "archives", "datasets/cifar100", "datasets/cifar10"],
            ["datasets/covtype", "encoders/resnet"],
        ),
        (
            "spoken",
            ["sources", "datasets/spoken", "views/speech", "views/base"],
            ["encoders/resnet", "views/image", "features"],
        ),
    ],
)
def test_preprocessing_depends_on(package, source, depends, does_not):
    def code():
        return identity.source_code(source)

    before = package(code)
    for module in depends:
        assert package(code, f"imix/{module}.py") != before, module
    for module in does_not:
        assert package(code, f"imix/{module}.py") == before, module


def names(*modules, **options):
    return {path.relative_to(ROOT / "imix").with_suffix("").as_posix() for path in identity.closure(modules, **options)}


def test_the_closure_of_a_training():
    found = names("imix.pretraining", "imix.checkpoints", "imix.methods.moco", "imix.views.tabular")
    assert found - {"methods/__init__", "views/__init__", "encoders/__init__"} == set(NEEDED)


def test_every_training_has_its_own_code():
    codes = {
        (method, domain): identity.training_code(method, domain)
        for method in plugins.names("methods")
        for domain in plugins.names("views")
    }
    assert len(set(codes.values())) == len(codes) >= 12


def test_files_that_change_places_are_another_program(package):
    def swap(folder):
        one, other = folder / "methods/base.py", folder / "views/base.py"
        first, second = one.read_text(), other.read_text()
        one.write_text(second)
        other.write_text(first)

    def code():
        return identity.fingerprint("imix.methods.base", "imix.views.base", follow=False)

    def swapped():
        swap(identity.ROOT / "imix")
        return code()

    assert package(swapped) != package(code)


@pytest.mark.parametrize(
    "line,counts",
    [
        ("import imix.objectives", True),
        ("from imix import objectives", True),
        ("from imix.objectives import byol", True),
        ("from .. import objectives", True),
        ("from ..objectives import byol as loss", True),
        ("from . import objectives", False),  # imix.methods.objectives, which there is not
        ("def f():\n    from imix import objectives", True),
        ("import imixture, os.path", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from imix import objectives", False),
        ("if True:\n    from imix import objectives", True),
    ],
)
def test_all_ways_to_import(package, line, counts):
    def closure():
        return {path.name for path in identity.closure(["imix.methods.new"])}

    assert ("objectives.py" in package(closure, "imix/methods/new.py", f"{line}\n")) == counts


def test_imports_in_a_package_itself(package):
    def closure():
        return {path.name for path in identity.closure(["imix.methods"])}

    assert "moco.py" in package(closure, "imix/methods/__init__.py", "from . import moco\n")
    assert "objectives.py" in package(closure, "imix/methods/__init__.py", "from ..objectives import byol\n")


def test_the_tokens_need_the_standard_library_alone():
    code = (
        "import sys, imix.tokens; print({name.split('.')[0] for name in sys.modules} & {'torch', 'pydantic', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_imports_go_one_way():
    """Also those within functions: none hides a circle. Views, encoders and methods know no data sets."""
    found = [*(ROOT / "imix").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    files = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in found}
    imports = {name: {*identity._imports(name, path)} & files.keys() - {name} for name, path in files.items()}
    graphlib.TopologicalSorter(imports).prepare()
    for name, others in imports.items():
        if name.startswith(("imix.views", "imix.encoders", "imix.methods")):
            assert not {other for other in others if other.startswith(("imix.datasets", "imix.sources"))}, name
