#!/usr/bin/env bash
# Tests, speed and the paper's CovType column on a GPU, in under nine minutes, without network or DVC:
#
#     benchmarks/gpu.sh WHEELS RESULTS [--parts tests speed covtype] [--seconds 500] [--tiny]
#
# Needs Python 3.12 with torch, torchvision, torchaudio, NumPy and safetensors; WHEELS is from benchmarks/gpu_wheels.sh.
# RESULTS/summary.md has everything so far, whenever it ends.
set -euo pipefail
wheels=$(realpath "${1:?the folder of wheels}")
results=$(realpath -m "${2:?a folder for results}")
shift 2
cd "$(dirname "$0")/.."

site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
"${PYTHON:-python3}" -m pip install -q --no-index --no-deps --target "$site" "$wheels"/*.whl
# before the packages that are installed: torch brings a version of one or the other
PYTHONPATH="$PWD:$site" IMIX_STORE="${IMIX_STORE:-$site/store}" \
  "${PYTHON:-python3}" -m benchmarks.gpu "$results" --data "$wheels/covtype" "$@"
