"""How an LLM ends its answers, and whether older versions generated them in another way.

Everything is read from the tokenizer and the configuration, without weights.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers import DynamicCache, GenerationConfig

from mordal_optuna.models.loading import load_config, load_tokenizer
from mordal_optuna.models.template import IMAGE_TOKEN, chat_template
from mordal_optuna.models.turns import stop_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mordal_optuna.pool import ModelSource

# Settings that changed no greedy answer in older versions: tokens by name, settings of sampling
# and beam search, limits that scoring always gave, and what costs or outputs depend on.
_WITHOUT_EFFECT = frozenset(
    {
        *("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"),
        *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "top_h"),
        *("epsilon_cutoff", "eta_cutoff", "renormalize_logits", "num_return_sequences"),
        *("num_beams", "num_beam_groups", "length_penalty", "early_stopping", "diversity_penalty"),
        *("max_length", "max_new_tokens", "use_cache", "cache_implementation", "cache_config"),
        *("output_attentions", "output_hidden_states", "output_scores", "output_logits"),
        *("return_dict_in_generate", "transformers_version", "_from_model_config"),
        *("compile_config", "disable_compile", "low_memory"),
    }
)
# Tokens of a window that no benchmark's prompt fills.
_LONG = 4096


@dataclass
class Chat:
    """A tokenizer and a chat template, as a processor has them.

    Attributes:
        tokenizer: tokenizer of an LLM, with the image token.
        chat_template: chat template of its candidates.
    """

    tokenizer: PreTrainedTokenizerBase
    chat_template: str


def load_chat(source: ModelSource) -> Chat:
    """Load an LLM's tokenizer and chat template as its candidates have them.

    Args:
        source: the LLM, and how its chat template is used.

    Raises:
        ModelError: if the tokenizer cannot be loaded, or the options do not fit the template.
    """
    tokenizer = load_tokenizer(source)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE_TOKEN]})
    return Chat(tokenizer, chat_template(tokenizer, source.template, name=source.name))


def own_generation(source: ModelSource) -> GenerationConfig:
    """The LLM's own generation settings: its file, or else what its configuration says.

    Args:
        source: name and location of the LLM.

    Raises:
        ModelError: if there is no such file, and the configuration cannot be loaded.
    """
    try:
        return GenerationConfig.from_pretrained(
            source.location, revision=source.revision or "main"
        )
    except OSError:  # many LLMs have no such file
        return GenerationConfig.from_model_config(load_config(source))


def generation_mark(source: ModelSource) -> str:
    """What distinguishes an LLM's scores from those that older versions stored for its weights.

    Older versions stopped at the tokenizer's eos alone, and applied the LLM's own settings, such
    as a repetition penalty, to greedy answers. They put padding inside a prompt, behind its
    picture, so that a sliding window reached less far in a batch than alone.

    Args:
        source: the LLM, and how its chat template is used.

    Returns:
        Eight hexadecimal digits; empty if older versions generated the same answers, whose scores
        stay valid.

    Raises:
        ModelError: if the LLM's tokenizer or configuration cannot be loaded.
    """
    chat, own = load_chat(source), own_generation(source)
    stops = stop_tokens(chat, own)
    windowed = _slides_within_prompts(source)
    if stops == [chat.tokenizer.eos_token_id] and not _own_effects(own) and not windowed:
        return ""
    effects = {"stops": stops, "own settings": False}
    if windowed:
        effects["padding"] = "before the prompt"
    shaped = json.dumps(effects, sort_keys=True)
    return hashlib.sha256(shaped.encode()).hexdigest()[:8]


def _slides_within_prompts(source: ModelSource) -> bool:
    """Whether an LLM has a sliding window that can be shorter than a prompt with a picture."""
    layers = DynamicCache(config=load_config(source).get_text_config()).layers
    return any(layer.is_sliding and layer.sliding_window < _LONG for layer in layers)


def _own_effects(generation: GenerationConfig) -> set[str]:
    """Names of settings by which an LLM changes greedy answers."""
    return set(generation.to_diff_dict()) - _WITHOUT_EFFECT
