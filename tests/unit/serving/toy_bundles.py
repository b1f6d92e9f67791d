"""Small model bundles, made by hand."""

from __future__ import annotations

from dataclasses import replace

from trialops.models.bundle import Bundle

FEATURES = ("age", "weight_slope", "ae_count")

TREE = """tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=2
objective=binary sigmoid:1
feature_names=age weight_slope ae_count
feature_infos=[-4:4] [-4:4] [-4:4]

Tree=0
num_leaves=3
num_cat=0
split_feature=0 1
split_gain=10 5
threshold=0.25 -0.5
decision_type=10 8
left_child=1 -1
right_child=-2 -3
leaf_value=-0.75 0.5 -0.125
leaf_weight=10 10 10
leaf_count=10 10 10
internal_value=0 0
internal_weight=30 20
internal_count=30 20
is_linear=0
shrinkage=1


end of trees

parameters:
end of parameters
"""


def logistic(coefficients: tuple[float, ...] = (0.8, -0.6, 0.3), intercept: float = -0.4) -> Bundle:
    """A logistic bundle on three standardised features."""
    return Bundle(
        name="withdrawal",
        kind="logistic",
        features=FEATURES,
        threshold=0.4,
        task={"name": "withdrawal"},
        training={"table": "training_set", "version": 1, "digest": "0" * 64, "rows": 200},
        created_by="run-1",
        params={"C": 1.0},
        fill=dict.fromkeys(FEATURES, 0.0),
        centre=(0.0, 0.0, 0.0),
        scale=(1.0, 1.0, 1.0),
        coefficients=coefficients,
        intercept=intercept,
    )


def overflowing() -> Bundle:
    """A logistic bundle that divides by almost nothing: infinity less infinity, where inputs are not zero."""
    return replace(logistic((1.0, -1.0, 0.0)), scale=(1e-312, 1e-312, 1.0))


def trees() -> Bundle:
    """A LightGBM bundle of one tree."""
    return Bundle(
        name="withdrawal",
        kind="lightgbm",
        features=FEATURES,
        threshold=0.4,
        task={"name": "withdrawal"},
        training={"table": "training_set", "version": 1, "digest": "0" * 64, "rows": 200},
        created_by="run-2",
        params={"rounds": 1},
        booster=TREE,
    )
