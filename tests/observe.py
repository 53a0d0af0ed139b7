"""Note what each stage of a `dvc repro` opens, removes, imports and unpickles.

`install` puts a copy of this file on a clone's import path as ``sitecustomize``, which every Python process runs
first: the stages, and the server that their workers are forked from. DVC says in ``DVC_STAGE`` which stage a process
belongs to. `read` collects the notes.
"""

import importlib.machinery
import json
import os
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

WRITES = os.O_WRONLY | os.O_RDWR
REMOVALS = ("os.remove", "os.rmdir", "shutil.rmtree")  # audit events; renames are those of files just written


class Notes(NamedTuple):
    """Paths relative to the clone, and the classes that an unpickler looked up ("module.name")."""

    read: set[str]
    written: set[str]
    removed: set[str]
    unpickled: set[str]

    def modules(self) -> set[str]:
        """Return the imported modules of the project, as imix/files.py, by their source or their compiled form."""
        found = set()
        for path in map(Path, self.read):
            if path.suffix in (".py", ".pyc") and path.parts[0] in ("imix", "stages"):
                folder = path.parent.parent if path.parent.name == "__pycache__" else path.parent
                found.add((folder / f"{path.name.split('.')[0]}.py").as_posix())
        return found


def install(folder: Path) -> dict[str, str]:
    """Put the observer into an empty ``folder``, and return the variables that make a clone's processes use it."""
    (folder / "notes").mkdir(parents=True)
    (folder / "sitecustomize.py").write_text(Path(__file__).read_text())
    return {"PYTHONPATH": str(folder), "OBSERVE_INTO": str(folder / "notes")}


def read(folder: Path) -> dict[str, Notes]:
    """Return the notes by stage."""
    found: dict[str, Notes] = defaultdict(lambda: Notes(set(), set(), set(), set()))
    for file in (folder / "notes").iterdir():
        for line in file.read_text().splitlines():
            stage, kind, text = json.loads(line)
            getattr(found[stage], kind).add(text)
    return dict(found)


def _observe(stage: str, into: str) -> None:
    root, seen = Path(os.environ["DVC_ROOT"]), set()

    def note(kind: str, text: str) -> None:
        if (kind, text) not in seen:
            seen.add((kind, text))
            with Path(into, str(os.getpid())).open("a") as file:
                file.write(json.dumps([stage, kind, text]) + "\n")

    def path_noted(kind: str, raw: object) -> None:
        if isinstance(raw, str | os.PathLike):
            path = os.path.normpath(Path.cwd() / os.fspath(raw))
            # packages look for folders beside every entry of sys.path, of which one is the clone
            if path.startswith(f"{root}{os.sep}") and (kind != "read" or os.path.lexists(path)):
                note(kind, os.path.relpath(path, root))

    def hook(event: str, args: tuple) -> None:
        if event == "open":
            writes = set(str(args[1] or "r")) & set("wax+") or (args[2] or 0) & WRITES
            path_noted("written" if writes else "read", args[0])
        elif event in ("os.listdir", "os.scandir"):
            path_noted("read", args[0])
        elif event in REMOVALS and args[1] in (-1, None):  # else relative to a folder that a removal itself is noted of
            path_noted("removed", args[0])
        elif event == "pickle.find_class":
            note("unpickled", f"{args[0]}.{args[1]}")

    sys.addaudithook(hook)
    sys.meta_path.insert(0, _Safetensors())


class _Safetensors:
    """An import hook: safetensors opens files in Rust, of which Python's audit hears nothing."""

    def find_spec(self, name: str, path: object, target: object = None) -> object:
        if name != "safetensors":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def exec_module(module: object) -> None:
            execute(module)
            real = module.safe_open

            def safe_open(path: object, *args: object, **kwargs: object) -> object:
                sys.audit("open", os.fspath(path), "r", 0)
                return real(path, *args, **kwargs)

            module.safe_open = safe_open

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "sitecustomize" and "OBSERVE_INTO" in os.environ and "DVC_STAGE" in os.environ:
    _observe(os.environ["DVC_STAGE"], os.environ["OBSERVE_INTO"])
