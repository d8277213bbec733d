"""Qwen3: a think block before the last answer, which earlier answers lose.

Source: Qwen/Qwen3-8B, tokenizer_config.json and generation_config.json, as quoted in public
repositories. An answer after the last question gets a think block, empty if it has no reasoning.
`enable_thinking: false` puts the empty block into the generation prompt. Tools are left out here.
"""

from tests.families.chat import Chat

_LAST_QUESTION = (
    "{%- set last = namespace(question=messages | length - 1, found=false) %}"
    "{%- for message in messages[::-1] %}"
    "{%- if not last.found and message.role == 'user' and message.content is string %}"
    "{%- set last.found = true %}"
    "{%- set last.question = messages | length - 1 - loop.index0 %}"
    "{%- endif %}"
    "{%- endfor %}"
)
_TURNS = (
    "{%- for message in messages %}"
    "{%- set answer = message.content %}{%- set thoughts = '' %}"
    "{%- if message.role == 'assistant' %}"
    "{%- if '</think>' in answer %}"
    "{%- set thoughts = answer.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set answer = answer.split('</think>')[-1].lstrip('\n') %}"
    "{%- endif %}"
    "{%- if loop.index0 > last.question and (loop.last or thoughts) %}"
    "{{- '<|im_start|>assistant\n<think>\n' + thoughts + '\n</think>\n\n' }}"
    "{{- answer.lstrip('\n') + '<|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>assistant\n' + answer + '<|im_end|>\n' }}{%- endif %}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
    "{%- endif %}"
    "{%- endfor %}"
)
_PROMPT = (
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}"
    "{%- endif %}"
)

QWEN3 = Chat(
    name="qwen3",
    architecture="qwen3",
    template=_LAST_QUESTION + _TURNS + _PROMPT,
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    plain=("<think>", "</think>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    stops=("<|im_end|>", "<|endoftext|>"),
    generation={"do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": 20},
    rendered=(
        "<|im_start|>user\n<image>\nWhat color is it?<|im_end|>\n"
        "<|im_start|>assistant\nred<|im_end|>\n"
        "<|im_start|>user\nWhere is it?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n\n</think>\n\nnorth<|im_end|>\n"
    ),
    stop=("<|im_end|>", "<|endoftext|>"),
    arguments={"enable_thinking": False},
)
