"""Chat templates: the LLM's own template, or a default for LLMs without one.

A candidate's processor holds the template, so training and evaluation render the same text. Texts
are tokenised without adding special tokens, since the template writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"

# LLaVA-1.5's layout: "USER: <image>\n{question} ASSISTANT: {answer}</s>".
DEFAULT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    " ASSISTANT: {% for part in message['content'] %}{{ part['text'] }}{% endfor %}{{ eos_token }}"
    "{% else %}"
    "USER: "
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)

# LLMs' own templates expect the content to be a string. This prefix converts lists of parts to a
# string, with "<image>\n" for an image, and leaves the template itself unchanged.
_FLATTEN = (
    "{%- set flat = namespace(messages=[]) -%}"
    "{%- for message in messages -%}"
    "{%- if message['content'] is string -%}"
    "{%- set flat.messages = flat.messages + [message] -%}"
    "{%- else -%}"
    "{%- set text = namespace(value='') -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}{%- set text.value = text.value + '<image>\n' -%}"
    "{%- else -%}{%- set text.value = text.value + part['text'] -%}{%- endif -%}"
    "{%- endfor -%}"
    "{%- set flat.messages = flat.messages "
    "+ [{'role': message['role'], 'content': text.value}] -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- set messages = flat.messages -%}"
)


def chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The chat template of a candidate.

    Args:
        tokenizer: tokenizer of the candidate's LLM.

    Returns:
        The LLM's template, extended to accept images; the default if the LLM has none.
    """
    template = tokenizer.chat_template
    has_template = isinstance(template, str) and template
    return _FLATTEN + template if has_template else DEFAULT_TEMPLATE
