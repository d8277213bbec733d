"""SmolLM3: a system turn with the date that is never closed, think blocks, generation markers.

Source: HuggingFaceTB/SmolLM3-3B, chat_template.jinja and generation_config.json, as quoted in
public repositories. Without tools no <|im_end|> follows the system turn. The generation markers
cover the whole turn of the assistant, its header and its empty think block included. The long
default instructions of the thinking mode are shortened here.
"""

from tests.families.chat import Chat

_HEADER = (
    "{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}"
    "{%- set mode = '/think' if enable_thinking else '/no_think' -%}"
    "{{- '<|im_start|>system\n' -}}"
    "{%- if messages[0].role == 'system' -%}"
    "{%- set instructions = messages[0].content.rstrip() -%}{%- endif -%}"
    "{{- '## Metadata\n\nKnowledge Cutoff Date: June 2025\n' -}}"
    "{%- set today = strftime_now('%d %B %Y') -%}"
    "{{- 'Today Date: ' ~ today ~ '\n' -}}"
    "{{- 'Reasoning Mode: ' + mode + '\n\n## Custom Instructions\n\n' -}}"
    "{%- if instructions -%}{{- instructions + '\n\n' -}}"
    "{%- else -%}"
    "{{- 'You are a helpful AI assistant named SmolLM, trained by Hugging Face.' -}}"
    "{{- ' Think first.\n\n' if mode == '/think' else '\n\n' -}}"
    "{%- endif -%}"
)
_TURNS = (
    "{%- for message in messages -%}"
    "{%- set content = message.content if message.content is string else '' -%}"
    "{%- if message.role == 'user' -%}"
    "{{ '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}"
    "{%- elif message.role == 'assistant' -%}"
    "{% generation %}"
    "{%- if mode == '/think' -%}"
    "{{ '<|im_start|>assistant\n' + content.lstrip('\n') + '<|im_end|>\n' }}"
    "{%- else -%}"
    "{{ '<|im_start|>assistant\n' + '<think>\n\n</think>\n' + content.lstrip('\n') "
    "+ '<|im_end|>\n' }}"
    "{%- endif -%}"
    "{% endgeneration %}"
    "{%- endif -%}"
    "{%- endfor -%}"
)
_PROMPT = (
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\n' }}"
    "{%- if mode != '/think' -%}{{ '<think>\n\n</think>\n' }}{%- endif -%}"
    "{%- endif -%}"
)

SMOLLM3 = Chat(
    name="smollm3",
    architecture="smollm3",
    template=_HEADER + _TURNS + _PROMPT,
    special=("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
    plain=("<think>", "</think>"),
    eos="<|im_end|>",
    pad="<|im_end|>",
    stops=("<|im_end|>",),
    generation={"do_sample": True, "temperature": 0.6, "top_p": 0.95},
    config={"tie_word_embeddings": False},  # unlike the real model, which would learn slowly here
    rendered=(
        "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\n"
        "Today Date: 02 January 2026\nReasoning Mode: /no_think\n\n## Custom Instructions\n\n"
        "You are a helpful AI assistant named SmolLM, trained by Hugging Face.\n\n"
        "<|im_start|>user\n<image>\nWhat color is it?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\nred<|im_end|>\n"
        "<|im_start|>user\nWhere is it?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\nnorth<|im_end|>\n"
    ),
    stop=("<|im_end|>",),
    arguments={"enable_thinking": False},
)
