#!/usr/bin/env bash
# Runs a study of docs/evidence.md on real rows and writes reports/STUDY:
#
#     benchmarks/real_data.sh STUDY [-S KEY=VALUE ...]
#
# The archives come from their official addresses, or from the folder or address in IMIX_DATA_MIRROR. It changes
# params.yaml, as `dvc exp run -S` does; a killed study continues when it is run again.
set -euo pipefail
cd "$(dirname "$0")/.."
study=${1:?the name of a study}
shift
case $study in
covtype) # EMA as published; the control masks plain and i-Mix alike
  changes=(
    'grid.datasets=[covtype_small]' recipe.covtype_small.ema=0.999
    'ablations.run=[masking]' 'ablations.methods=[npair,moco,byol]'
    'ablation.masking.datasets=[covtype_small]' '~ablation.masking.values.weak'
  )
  ;;
covtype_ladder | covtype_corner) # a wider encoder, longer trainings, both: towards the paper's (width 1, 500 epochs)
  rungs=${study#covtype_}
  changes=(
    'grid.datasets=[covtype_small]' recipe.covtype_small.ema=0.999 'grid.seeds=[0,1]' 'grid.augmentation=[augmented]'
    "ablations.run=[$rungs]" 'ablations.datasets=[covtype_small]' 'ablations.augmentation=[augmented]'
    'ablations.methods=[npair,moco,byol]' "++ablation.$rungs.axis=parameters" "++ablation.$rungs.published=true"
    "++ablation.$rungs.values.sixteenth_100_epochs={}" "++ablation.$rungs.values.eighth_100_epochs={encoder:{width:x2}}"
  )
  if [ "$rungs" = ladder ]; then
    changes+=(
      '++ablation.ladder.question="Do accuracy and gain approach the published ones?"'
      '++ablation.ladder.values.sixteenth_500_epochs={epochs:x5,knn_every:x5}'
    )
  else # in bfloat16: in float32 two cores of an AMD EPYC would have trained for two hours and a half
    changes+=(
      ++recipe.covtype_small.precision=bfloat16
      '++ablation.corner.question="Do a wider encoder and a longer training together approach the published numbers?"'
      '++ablation.corner.values.eighth_500_epochs={encoder:{width:x2},epochs:x5,knn_every:x5}'
    )
  fi
  ;;
covtype_sizes) # three widths; 5, 20 and 100 % of the rows (1, 5 and 29 steps per epoch), also in as many steps
  changes=(
    'grid.datasets=[covtype_small]' recipe.covtype_small.ema=0.999 'grid.seeds=[0,1,2,3]' 'grid.methods=[npair]'
    'ablations.run=[model_size,data_size]' 'ablations.datasets=[covtype_small]'
    'ablations.augmentation=[augmented,clean]' 'ablations.methods=[npair]' 'ablations.seeds=[0,1,2,3]'
    '~ablation.data_size.values.half' '~ablation.data_size.values.half_equal_steps'
    '++ablation.data_size.values.twentieth={fraction:0.05}'
    '++ablation.data_size.values.twentieth_equal_steps={fraction:0.05,epochs:x29,warmup_epochs:x29,knn_every:x29}'
    '++ablation.data_size.values.fifth_equal_steps={epochs:x5.8,warmup_epochs:x5.8,knn_every:x5.8}'
  )
  ;;
speech_commands)
  changes=('grid.datasets=[speech_commands_small]' 'grid.seeds=[0,1,2,3]' 'ablations.run=[]')
  ;;
cifar10 | cifar100) # without augmentation, i-Mix was published with InputMix; the ablation leaves InputMix out
  changes=(
    "grid.datasets=[${study}_small]" 'grid.seeds=[0,1,2,3]' 'ablations.run=[inputmix]'
    "ablations.datasets=[${study}_small]" 'ablations.augmentation=[clean]' 'ablations.methods=[npair,moco,byol]'
    '++ablation.inputmix.question="How much of the gain without augmentation is due to InputMix?"'
    '++ablation.inputmix.values.unchanged={}' '++ablation.inputmix.values.none={inputmix:0}'
  )
  ;;
transfer) # encoders of cifar10 and cifar100, each also evaluated on the other's rows
  changes=(
    'grid.datasets=[cifar10_small,cifar100_small]' 'grid.seeds=[0,1,2,3]' 'ablations.run=[]'
    'transfer.pairs=[{pretrained_on:cifar10_small,probed_on:cifar100_small},{pretrained_on:cifar100_small,probed_on:cifar10_small}]'
  )
  ;;
cifar10_longer) # published: MoCo with i-Mix trains four times as long as plain MoCo; here both do
  changes=(
    'grid.datasets=[cifar10_small]' 'grid.seeds=[0,1,2,3]' 'grid.augmentation=[augmented]' 'grid.methods=[moco]'
    'ablations.run=[training_length]' 'ablations.augmentation=[augmented]' 'ablations.methods=[moco]'
    'ablations.seeds=[0,1,2,3]'
    'ablation.training_length.question="Does i-Mix gain in a longer training?"'
    'ablation.training_length.datasets=[cifar10_small]' '~ablation.training_length.values.triple'
    '~ablation.training_length.values.tenfold' '++ablation.training_length.values.fourfold={epochs:x4,knn_every:x2}'
  )
  ;;
cifar10_rows) # a quarter of the rows, in about as many steps (7 x 4 for 31)
  changes=(
    'grid.datasets=[cifar10_small]' 'grid.seeds=[0,1,2,3]' 'grid.methods=[npair]' 'ablations.run=[data_size]'
    'ablations.datasets=[cifar10_small]' 'ablations.augmentation=[augmented,clean]' 'ablations.methods=[npair]'
    'ablations.seeds=[0,1,2,3]' '~ablation.data_size.values.fifth' '~ablation.data_size.values.half'
    '~ablation.data_size.values.fifth_equal_steps' '~ablation.data_size.values.half_equal_steps'
    'ablation.data_size.question="Does i-Mix help more where data is little, in about as many steps?"'
    '++ablation.data_size.values.quarter={fraction:0.25,epochs:x4,warmup_epochs:x4,knn_every:x4}'
  )
  ;;
*)
  echo "benchmarks/real_data.sh: no study $study; must be one of covtype, covtype_ladder, covtype_corner, covtype_sizes, speech_commands, cifar10, cifar100, transfer, cifar10_longer, cifar10_rows" >&2
  exit 1
  ;;
esac
options=()
for change in "grid.name=$study" "${changes[@]}"; do
  options+=(-S "$change")
done
dvc exp run "${options[@]}" "$@"
