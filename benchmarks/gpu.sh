#!/usr/bin/env bash
# One CUDA card, under nine minutes: the tests marked `gpu`, then every speed row with --quick.
#
#     bash benchmarks/gpu.sh OUT      # JSON of each row and the tests' log go to the folder OUT
#
# Needs torch, transformers, lightning, pytest and the wheels of jsonargparse; ZOO_DATA if there is
# any. A row that fails or takes too long is named at the end and the others still run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?"usage: bash benchmarks/gpu.sh OUT"}
mkdir -p "$out"
export HF_HUB_OFFLINE=1
failed=()

python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || {
  echo "error: torch sees no CUDA card" >&2
  exit 2
}
timeout 200 python -m pytest -q -m gpu -p no:cacheprovider tests/test_cuda.py > "$out/tests.log" 2>&1 ||
  failed+=("tests (see $out/tests.log)")
tail -n 1 "$out/tests.log"
for row in $(python -m benchmarks list | cut -d' ' -f1); do
  case $row in data_start | stream) continue ;; esac  # rows of the processor and the disk
  timeout 45 python -m benchmarks "$row" --device cuda --quick --json "$out/$row.json" \
    > "$out/$row.log" 2>&1 || failed+=("$row")
  sed -n '3,4p' "$out/$row.log"
done
printf 'not done: %s\n' "${failed[@]}"
[ ${#failed[@]} -eq 0 ]
