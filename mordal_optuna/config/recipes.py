"""Published training recipes, as named presets of the study file's `alignment` section.

A recipe fills options that the study file leaves out; options that it sets take precedence.

`llava-1.5`: LLaVA-1.5 with LoRA (Liu et al. 2023, "Improved Baselines with Visual Instruction
Tuning"), from `scripts/v1_5/finetune_lora.sh` and `pretrain.sh` and the conversation `v1` of
haotian-liu/LLaVA. First the projector is trained alone at 1e-3; then LoRA (rank 128, alpha 256,
dropout .05) at 2e-4 and the projector at 2e-5. Each stage is one pass with batches of 128, a
warm-up over 3 % of its samples and a cosine to 0. What differs here:

    Stage 1 was 558,000 captions of a set of its own, 46 % of all samples, in batches of 256 and
    without a system prompt. A study has one alignment set, and each rung is a prefix of it: with
    46 %, no low rung would have trained the LLM. Stage 1 is therefore the first 1.5 % of the set,
    in the same batches and prompts; `projector_stage: {share: ...}` sets another share.
    The warm-up of stage 2 and the cosine refer to all D samples. A rung below D is scored before
    the rate has reached 0, and one below 4.5 % of D before it has reached its peak.
    The published prompt is used for LLMs without a chat template of their own, such as
    Vicuna-1.5, for which it was written; the others keep theirs.

`mordal`: He et al. 2025 (arXiv 2502.00241): 1e-4, falling linearly to 0 over D samples, in batches
of 4. The paper leaves the warm-up and LoRA open; the defaults stay in force for these.
"""

from __future__ import annotations

from typing import Any, Literal

RecipeName = Literal["llava-1.5", "mordal"]

# The system prompt of LLaVA-1.5's conversation `v1`, which is Vicuna's.
_LLAVA_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
RECIPES: dict[str, dict[str, Any]] = {
    "llava-1.5": {
        "batch_size": 128,
        "learning_rate": 2e-4,
        "projector_learning_rate": 2e-5,
        "projector_stage": {"share": 0.015, "learning_rate": 1e-3},
        "warmup_share": 0.03,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "max_gradient_norm": 1.0,
        "lora": {"rank": 128, "alpha": 256, "dropout": 0.05},
        "precision": "bf16",
        "max_length": 2048,
        "too_long": "cut",
        "system_prompt": _LLAVA_PROMPT,
    },
    "mordal": {"learning_rate": 1e-4, "schedule": "linear", "batch_size": 4},
}
# Of two options of which one can be used, that of the study file replaces that of the recipe.
_REPLACES = {"warmup_samples": "warmup_share"}


def with_recipe(given: dict[str, Any]) -> dict[str, Any]:
    """An `alignment` section in which the named recipe fills what is left out.

    Args:
        given: the section as in the study file; returned as it is if it names no recipe, or one
            that does not exist.
    """
    name = given.get("recipe")
    filled = RECIPES.get(name, {}) if isinstance(name, str) else {}
    replaced = {old for new, old in _REPLACES.items() if new in given}
    return {**{k: v for k, v in filled.items() if k not in replaced}, **given}
