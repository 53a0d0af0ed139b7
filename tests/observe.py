"""Run stages and note what each opens and imports: ``python observe.py REPORT < commands``, in the folder of a clone.

A command is a JSON list, ["stages.pretrain", "--dataset", ...]. Each runs in a fork of this process, which has imported
the large packages but nothing of the project: a dozen stages take seconds.
"""

import importlib
import json
import os
import runpy
import sys
from pathlib import Path

PACKAGES = ("torch", "pandas", "matplotlib.pyplot", "sklearn.manifold", "scipy.signal", "safetensors.torch", "pydantic", "yaml", "tqdm")


def tell_of_safetensors() -> None:
    """Safetensors opens files in Rust, which Python's audit does not see."""
    import safetensors
    import safetensors.torch

    real = safetensors.safe_open

    def safe_open(path, *args, **kwargs):
        sys.audit("open", os.fspath(path), "r", 0)
        return real(path, *args, **kwargs)

    safetensors.safe_open = safetensors.torch.safe_open = safe_open


def child(module: str, arguments: list[str], notes: Path) -> None:
    root = Path.cwd()
    read, written = set(), set()

    def hook(event: str, args: tuple) -> None:
        if event in ("open", "os.listdir", "os.scandir") and isinstance(args[0], str | os.PathLike):
            path = Path(os.path.normpath(root / args[0]))
            if path.is_relative_to(root):
                writes = event == "open" and (set(str(args[1] or "r")) & set("wax+") or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR))
                (written if writes else read).add(path.relative_to(root).as_posix())

    sys.addaudithook(hook)
    sys.argv = [module, *arguments]
    sys.path[0] = str(root)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    files = {getattr(m, "__file__", None) for n, m in list(sys.modules.items()) if n.split(".")[0] in ("imix", "stages")}
    modules = {Path(file).relative_to(root).as_posix() for file in files if file} | {module.replace(".", "/") + ".py"}
    notes.write_text(json.dumps({"read": sorted(read), "written": sorted(written), "modules": sorted(modules)}))


def main() -> None:
    sys.dont_write_bytecode = True
    for package in PACKAGES:
        importlib.import_module(package)
    tell_of_safetensors()
    result = []
    for number, line in enumerate(sys.stdin):
        module, *arguments = json.loads(line)
        notes = Path(f"{sys.argv[1]}.{number}")
        pid = os.fork()
        if not pid:
            code = 1
            try:
                child(module, arguments, notes)
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"{module} {arguments} failed")
        result.append(json.loads(notes.read_text()))
    Path(sys.argv[1]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
