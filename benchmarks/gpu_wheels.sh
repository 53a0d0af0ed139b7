#!/usr/bin/env bash
# Gather what benchmarks/gpu.sh needs where there is no network: wheels for Python 3.12 on Linux (x86-64), and CovType
# as tensors. Run it where the study's packages are installed:
#
#     IMIX_DATA_MIRROR=FOLDER benchmarks/gpu_wheels.sh WHEELS
#
# Fails if the wheels are over 40 MiB, or they, the tensors and the checkout over 60.
set -euo pipefail
wheels=$(realpath -m "${1:?a folder for the wheels}")
cd "$(dirname "$0")/.."

packages=(pydantic ruamel.yaml tqdm pytest threadpoolctl)
platforms=()
for name in manylinux_2_28 manylinux_2_17 manylinux2014 manylinux1; do platforms+=(--platform "${name}_x86_64"); done

rm -rf "$wheels" && mkdir -p "$wheels"
python -m pip download -q --only-binary=:all: --python-version 3.12 --implementation cp \
  "${platforms[@]}" -d "$wheels" "${packages[@]}"
python -m benchmarks.gpu_covtype "$wheels/covtype" --make

mib() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1048576 }'; }
of_wheels=$(cat "$wheels"/*.whl | wc -c)
of_rows=$(cat "$wheels"/covtype/* | wc -c)
of_checkout=$(git ls-files -z | xargs -0 cat | wc -c)
all=$((of_wheels + of_rows + of_checkout))
echo "wheels $(mib "$of_wheels") MiB, CovType $(mib "$of_rows"), checkout $(mib "$of_checkout"), all $(mib "$all")"
[ "$of_wheels" -lt $((40 * 1048576)) ] && [ "$all" -lt $((60 * 1048576)) ] || { echo "too large" >&2; exit 1; }
