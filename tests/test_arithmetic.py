"""Portable arithmetic: what a process computes with, and what the store's keys say of it."""

import os
import subprocess
import sys

import pytest
import torch

from imix import arithmetic, runtime
from imix.errors import UserError

SHOWN = "import stages, torch, imix.runtime as r; print(r.rounding(r.configure())['arithmetic'])"


def shown(**variables):
    """Return the arithmetic of a new process that is started as a stage is."""
    kept = {key: value for key, value in os.environ.items() if key not in arithmetic.VARIABLES}
    environment = kept | {"IMIX_DEVICE": "cpu"} | variables
    return subprocess.run([sys.executable, "-c", SHOWN], env=environment, capture_output=True, text=True)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX2", reason="portable arithmetic needs AVX2")
def test_a_stage_computes_portably_unless_asked_for_the_machine_s_own():
    assert shown().stdout.split() == ["portable"]
    assert runtime.processor() in shown(IMIX_ARITHMETIC="native").stdout
    wrong = shown(IMIX_ARITHMETIC="fast")
    assert wrong.returncode == 1 and not wrong.stdout
    assert wrong.stderr.strip() == "imix: error: IMIX_ARITHMETIC = 'fast': must be portable or native"


def test_variables_are_set_all_or_none(monkeypatch):
    for name in arithmetic.VARIABLES:
        monkeypatch.setenv(name, "another")
    monkeypatch.setenv("IMIX_ARITHMETIC", "native")
    arithmetic.choose()
    assert not arithmetic.portable() and os.environ["MKL_CBWR"] == "another"
    monkeypatch.setenv("IMIX_ARITHMETIC", "")
    arithmetic.choose()
    assert arithmetic.portable()
    monkeypatch.delenv("MKL_CBWR")
    assert not arithmetic.portable()
    monkeypatch.setenv("IMIX_ARITHMETIC", "1")
    with pytest.raises(UserError, match="must be portable or native"):
        arithmetic.choose()


@pytest.mark.parametrize("capability", ["AVX512", "DEFAULT"])
def test_another_processor_is_another_identity_unless_arithmetic_is_portable(monkeypatch, capability):
    cpu = torch.device("cpu")
    portable = runtime.rounding(cpu)
    monkeypatch.setattr(runtime, "processor", lambda: "another")
    assert runtime.rounding(cpu) == portable
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)  # torch was loaded before
    assert runtime.rounding(cpu)["arithmetic"] == ["another", capability]
