"""Qwen2.5-Instruct: ChatML with a default system prompt; repetition penalty in its settings.

Source: Qwen/Qwen2.5-7B-Instruct, tokenizer_config.json and generation_config.json, as quoted in
public repositories. The penalty is 1.05 for 7B and 1.1 for the smaller ones.
"""

from tests.families.chat import Chat

_SYSTEM = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

QWEN25 = Chat(
    name="qwen2.5-instruct",
    architecture="qwen2",
    template=(
        "{%- set own = messages[0].role == 'system' %}"
        "{{- '<|im_start|>system\n' }}"
        f"{{{{- messages[0].content if own else '{_SYSTEM}' }}}}"
        "{{- '<|im_end|>\n' }}"
        "{%- set turns = messages[1:] if own else messages %}"
        "{%- for message in turns %}"
        "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}"
        "{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
    ),
    special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    eos="<|im_end|>",
    pad="<|endoftext|>",
    stops=("<|im_end|>", "<|endoftext|>"),
    generation={
        **{"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.7},
        **{"top_p": 0.8, "top_k": 20},
    },
    rendered=(
        f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n"
        "<|im_start|>user\n<image>\nWhat color is it?<|im_end|>\n"
        "<|im_start|>assistant\nred<|im_end|>\n"
        "<|im_start|>user\nWhere is it?<|im_end|>\n"
        "<|im_start|>assistant\nnorth<|im_end|>\n"
    ),
    stop=("<|im_end|>", "<|endoftext|>"),
)
