# Options of `courier experiment` for the hm_fashion data set; the Makefile includes this file.

# The split is that of the data set's README. A cluster of 1000 holds 27 of the items; with 200 clusters rare items gain
# less on valid. Items and users with few purchases have no embedding of their own: the choice that is best on valid for
# the ranker without a visual feature (docs/log/ranker-training.md). Three seeds stand in for starts.
HM_SPLIT := --valid-from 2020-09-20 --test-from 2020-09-21
HM_TRAINING := --history-ties log_order --repeat-columns product_code --clusters 1000 \
	--supervised-steps 800 --supervised-learning-rate 1e-3 --precision mixed_bfloat16 \
	--rank-min-item-impressions 100 --rank-min-user-page-views 10 --rank-epochs 2 --rank-starts 1
HM := $(HM_SPLIT) $(HM_TRAINING)

# The same split one day earlier, for the grid previous-day.
HM_DAY_BEFORE := --valid-from 2020-09-19 --test-from 2020-09-20 --supervised-steps 1

HM_CLAIMS := tests/benchmarks/hm_fashion/claims.json
