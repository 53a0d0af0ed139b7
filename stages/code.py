"""Fingerprint the modules that a kind of stage runs: data/code/<kind>.txt, one line a file.

A hundred stages that each name ten modules make a lock file that DVC needs a second to rewrite, after every stage.
They name this one file instead; which modules it stands for is said once, as the ``deps`` of stage ``code_<kind>``. This
script is one of them, so that the stage runs when it changes, but is not fingerprinted: what follows runs only if the lines differ.
"""

import hashlib
from pathlib import Path

import yaml

from imix import settings
from imix.errors import exit_cleanly
from imix.files import write_bytes
from stages import DATA, arguments, say


def main() -> None:
    """Fingerprint one kind."""
    kind = arguments(__doc__, "kind").kind
    graph = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    kinds = {name.removeprefix("code_"): stage["deps"] for name, stage in graph.items() if name.startswith("code_")}
    deps = [dep for dep in settings.entry(kinds, kind, "--kind") if dep != "stages/code.py"]
    target = DATA / "code" / f"{kind}.txt"
    say(f"code {kind}", "fingerprints", target)
    files = sorted(file for dep in map(Path, deps) for file in ([dep] if dep.is_file() else dep.rglob("*.py")))
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.as_posix()}\n" for file in files]
    write_bytes(target, "".join(lines).encode())


if __name__ == "__main__":
    exit_cleanly(main)
