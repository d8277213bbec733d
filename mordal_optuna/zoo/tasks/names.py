"""Names of the seven drawn benchmarks."""

# lmms-eval's names, in the order of the Mordal paper's table. Seeds depend on the order.
TASKS = (
    "gqa",
    "vizwiz_vqa_val",
    "chartqa",
    "docvqa_val",
    "scienceqa_img",
    "ai2d",
    "mmmu_val",
)
