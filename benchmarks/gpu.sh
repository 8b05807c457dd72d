#!/usr/bin/env bash
# One CUDA card, nine minutes a call: the tests marked `gpu`, then the speed rows with --quick.
#
#     bash benchmarks/gpu.sh OUT [ROW ...]   # tests' log and JSON of each row go to the folder OUT
#
# Needs torch, transformers, lightning, peft, pytest-xdist and the wheels of jsonargparse and
# datasets; ZOO_DATA if there is any. What is done stays: a second call goes on where the first one
# ended. A row that fails is named at the end and the others still run.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?"usage: bash benchmarks/gpu.sh OUT [ROW ...]"}
shift
mkdir -p "$out"
out=$(realpath "$out")
export HF_HUB_OFFLINE=1
end=$((SECONDS + 530))
failed=()

python -c 'import torch, sys; sys.exit(not torch.cuda.is_available())' || {
  echo "error: torch sees no CUDA card" >&2
  exit 2
}
if ! grep -q passed "$out/tests.log" 2> /dev/null; then
  timeout 300 python -m pytest -q -m gpu -n 8 -p no:cacheprovider tests/test_cuda.py \
    > "$out/tests.log" 2>&1 || failed+=("tests (see $out/tests.log)")
fi
tail -n 1 "$out/tests.log"
rows=${*:-"vocabulary_loss dual_head preference_tree role_mean dpo_step sft_vs_trl option_scoring
  moe_dispatch megan_gate two_pass early_exit coarse_step rerank fsm_batch dilemma_batch map_score
  frozen_lower rabtriever_online cpt_packing"}  # not data_start, stream: of processor and disk
for row in $rows; do
  if [ -s "$out/$row.json" ]; then continue; fi
  left=$((end - SECONDS))
  if [ $left -lt 30 ]; then
    failed+=("$row (no time)")
    continue
  fi
  timeout $left python -m benchmarks "$row" --device cuda --quick --json "$out/$row.json" \
    --samples "$out/$row.samples" > "$out/$row.log" 2>&1 || failed+=("$row")
  grep -A2 "  against" "$out/$row.log" || tail -n 3 "$out/$row.log"
done
printf 'not done: %s\n' "${failed[@]}"
[ ${#failed[@]} -eq 0 ]
