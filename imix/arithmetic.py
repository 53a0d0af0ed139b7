"""Portable arithmetic: the same roundings on every x86 processor that has AVX2.

Libraries choose their code by the processor, and other code rounds differently. These variables
make all of them take the code for AVX2. They count only if they are set before torch and NumPy are
imported, so this module imports neither. ``IMIX_ARITHMETIC=native`` leaves the choice to the
libraries, which is faster.
"""

import os

from imix.errors import UserError

VARIABLES = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # convolutions
    "MKL_CBWR": "COMPATIBLE",  # matrix products and Fourier transforms; MKL ignores AVX2 on AMD
    "OPENBLAS_CORETYPE": "Haswell",  # NumPy's and SciPy's matrix products
    # NumPy's loops, by the names of 2.4 and those of earlier versions
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
}


def choose() -> None:
    """Set the variables of the arithmetic that ``IMIX_ARITHMETIC`` names, portable by default.

    Raises:
        UserError: ``IMIX_ARITHMETIC`` is neither portable nor native.
    """
    name = os.environ.get("IMIX_ARITHMETIC") or "portable"
    if name not in ("portable", "native"):
        raise UserError(f"IMIX_ARITHMETIC = {name!r}: must be portable or native")
    if name == "portable":
        os.environ.update(VARIABLES)


def portable() -> bool:
    """Return whether this process was started with the variables of portable arithmetic."""
    return all(os.environ.get(name) == value for name, value in VARIABLES.items())
