"""Chat templates: each LLM's own where it has one, a stated default where not.

The processor of a candidate carries the template, so that training and evaluation render the
same text. All texts are tokenised without added special tokens: the template writes them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGE_TOKEN = "<image>"

# LLaVA-1.5's layout: "USER: <image>\n{question} ASSISTANT: {answer}</s>". Used by LLMs that come
# without a template of their own.
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

# LLMs' own templates expect the content to be a string. This prefix turns lists of parts into
# one, an image becoming "<image>\n", and leaves the template itself as its authors wrote it.
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
    """The template a candidate's processor gets from its LLM's tokenizer."""
    own = tokenizer.chat_template
    return _FLATTEN + own if isinstance(own, str) and own else DEFAULT_TEMPLATE
