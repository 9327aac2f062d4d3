#!/usr/bin/env bash
# What only a GPU can show: its tests, and how fast a training step is there.
#
#     benchmarks/gpu.sh OUT [PART ...]
#
# Parts, in this order when none is named: tests, step, vit, feeding (all four in less than 8 minutes on
# one GPU). Besides: compiled, by torch.compile, with and without CUDA graphs; and pilot and
# experiment, a real run of the workflow with configs/fashion-resnet18.yaml, the pilot a small piece of
# it. OUT gets a log and JSON of each part, and summary.txt, which says also what was not done.
#
# For a bare machine with Python 3.12, torch 2.11 and no network: what is missing there travels as
# wheels. Make the folder here, and name it there:
#
#     benchmarks/gpu.sh wheels FOLDER        WHEELS=FOLDER benchmarks/gpu.sh OUT
#
# Further variables: PUBLISHED, a checkout of github.com/CoinCheung/MFM, to compare with; ARCHIVES,
# a folder with Fashion-MNIST's four files; PYTHON.
set -uo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
FOR=${FOR:-3.12} # version of Python that wheels are for
# What torch's own images lack. DALI isn't among them (250 MB): without it, its part is left out.
MISSING="pydantic pydantic-core annotated-types typing-inspection snakemake platformdirs immutables
  configargparse connection-pool docutils gitpython gitdb smmap humanfriendly jsonschema
  jsonschema-specifications referencing rpds-py nbformat fastjsonschema jupyter-core traitlets pulp
  tenacity smart-open snakemake-interface-executor-plugins argparse-dataclass
  snakemake-interface-common throttler snakemake-interface-storage-plugins
  snakemake-interface-report-plugins snakemake-interface-logger-plugins
  snakemake-interface-scheduler-plugins sqlmodel sqlalchemy yte dpath conda-inject"

wheels() { # for Python $FOR, at the versions of constraints.txt
  local pins name
  pins=$(mktemp)
  for name in $MISSING; do
    grep -iE "^$(sed 's/[-_]/[-_]/g' <<<"$name")==" constraints.txt || echo "$name"
  done >"$pins"
  # connection-pool has no wheel of its own; the others must fit the other machine, not this one.
  "$PYTHON" -m pip wheel --quiet --no-deps -w "$1" "$(grep -i '^connection' "$pins")"
  grep -vi '^connection' "$pins" | xargs "$PYTHON" -m pip download --quiet --no-deps -d "$1" \
    --only-binary=:all: --python-version "$FOR" --implementation cp \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 --platform manylinux1_x86_64
  rm "$pins"
}

if [ "${1:-}" = wheels ]; then
  mkdir -p "${2:?benchmarks/gpu.sh wheels FOLDER}"
  wheels "$2"
  exit
fi

OUT=$(realpath -m "${1:?benchmarks/gpu.sh OUT [PART ...]}")
shift
mkdir -p "$OUT"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -n "${WHEELS:-}" ]; then
  "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" "$WHEELS"/*.whl
fi
mkdir "$work/bin"
# The workflow's jobs start `python`; a link would leave an environment's packages behind.
printf '#!/bin/sh\nexec %s "$@"\n' "$(command -v "$PYTHON")" >"$work/bin/python"
chmod +x "$work/bin/python"
PATH="$work/bin:$PATH"
export PYTHONPATH="$PWD/src:$work/site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1

part() { # NAME SECONDS COMMAND...: run it, note how it ended
  local name=$1 limit=$2 began=$SECONDS code
  shift 2
  timeout --signal=INT --kill-after=20 "$limit" "$@" >"$OUT/$name.log" 2>&1
  code=$?
  case $code in
    0) code=done ;;
    124 | 137) code="NOT FINISHED in $limit s" ;;
    *) code="FAILED, exit code $code" ;;
  esac
  echo "$name: $code, $((SECONDS - began)) s" | tee -a "$OUT/summary.txt"
  tail -n "${TAIL:-12}" "$OUT/$name.log"
}

workflow() { # MORE...: the experiment, with what a configuration file doesn't know
  local more=(--config "dataset={name: fashion-mnist, source: fashion-mnist, archives: ${ARCHIVES:-null}, image_size: 32}")
  MFM_RUNS_PER_GPU=${MFM_RUNS_PER_GPU:-14} python -m snakemake --cores all \
    --configfile config.yaml configs/fashion-resnet18.yaml "${more[@]}" "$@"
}

tests() { python -m pytest -m gpu -n 8 -rs -rf --tb=short -p no:cacheprovider tests/test_gpu.py; }
step() {
  python benchmarks/train_step.py --json "$OUT/step.json" --steps 15 --rounds 2 \
    --formats bf16 bf16+free fp16 ${PUBLISHED:+--published "$PUBLISHED"}
}
vit() {
  python benchmarks/train_step.py --json "$OUT/vit.json" --steps 15 --rounds 2 \
    --cases vit_base_patch16_224:224:256 --formats bf16 fp16
}
feeding() { python benchmarks/feeding.py --json "$OUT/feeding.json" --epochs 2; }
compiled() {
  python benchmarks/train_step.py --json "$OUT/compiled.json" --steps 15 --rounds 1 --tasks mfm \
    --formats bf16 bf16+compiled bf16+graphs
}
pilot() {
  workflow results=results/pilot seeds='[0, 1]' \
    pretrain='{mfm: {seeds: [0, 1], epochs: 1}, supervised: {epochs: 1}}' -- results/pilot/table.md
}
experiment() {
  workflow -- results/fashion-resnet18/table.md
  local code=$?
  tar cz -C results --exclude='*.safetensors' --exclude='*.pt' --exclude='*.parquet' fashion-resnet18 >"$OUT/experiment.tar.gz"
  return $code
}
export -f tests step vit feeding compiled pilot experiment workflow
export OUT

{
  date -u
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader || echo "no GPU: nvidia-smi finds none"
  python -c 'import torch; print("torch", torch.__version__, "cuda", torch.version.cuda, "cudnn", torch.backends.cudnn.version(), torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")'
  python -c 'import nvidia.dali as d; print("DALI", d.__version__)' 2>/dev/null || echo "not done: DALI is not installed"
  [ -n "${PUBLISHED:-}" ] || echo "not done: no comparison with the published loop (PUBLISHED is not set)"
} 2>&1 | tee "$OUT/summary.txt"
[ $# -gt 0 ] || set -- tests step vit feeding
for name in "$@"; do
  case $name in
    tests) part tests 135 bash -c tests ;;
    step) part step 150 bash -c step ;;
    vit) part vit 90 bash -c vit ;;
    feeding) part feeding 100 bash -c feeding ;;
    compiled) part compiled 80 bash -c compiled ;;
    pilot) part pilot 75 bash -c pilot ;;
    experiment) part experiment "${EXPERIMENT_SECONDS:-420}" bash -c experiment ;;
    *)
      echo "no part '$name'" >&2
      exit 2
      ;;
  esac
done
! grep -q "FAILED\|NOT FINISHED" "$OUT/summary.txt"
