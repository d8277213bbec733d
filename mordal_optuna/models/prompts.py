"""Whether a model's prompts begin with the tokens that its tokenizer adds, such as BOS.

A candidate is trained on what its chat template writes, and no token is added to it; its export
says so in its configuration. The template of a published model, such as LLaVA-1.5's, may leave
BOS to the tokenizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PretrainedConfig, ProcessorMixin

# Name of the configuration's field in exports.
TEMPLATE_ONLY = "prompts_from_template_only"
# Beginning of the templates of exports that have no such field.
_OLDER_EXPORT = "{%- set flat = namespace(messages=[]) -%}"


def leaves_tokens_to_tokenizer(config: PretrainedConfig, processor: ProcessorMixin) -> bool:
    """Whether the tokenizer adds its special tokens to a model's rendered prompts.

    Args:
        config: configuration of a model that was loaded from a folder or the hub.
        processor: processor of the model.
    """
    template = processor.chat_template or ""
    older = isinstance(template, str) and template.startswith(_OLDER_EXPORT)
    return not getattr(config, TEMPLATE_ONLY, older)
