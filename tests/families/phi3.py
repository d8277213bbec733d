"""Phi-3.5-mini: turns end with <|end|>, and eos ends a text that needs no answer.

Source: microsoft/Phi-3.5-mini-instruct, tokenizer_config.json (the role tokens and <|end|> swallow
the white space after them) and generation_config.json, as quoted in public repositories.
"""

from tests.families.chat import Chat

PHI3 = Chat(
    name="phi-3.5-mini",
    architecture="phi3",
    template=(
        "{% for message in messages %}"
        "{% if message['role'] == 'system' and message['content'] %}"
        "{{ '<|system|>\n' + message['content'] + '<|end|>\n' }}"
        "{% elif message['role'] in ('user', 'assistant') %}"
        "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
        "{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
    ),
    special=(
        *("<unk>", "<s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
    ),
    strips=("<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
    bos="<s>",
    eos="<|endoftext|>",
    pad="<|endoftext|>",
    stops=("<|end|>", "<|assistant|>", "<|endoftext|>"),
    rendered=(
        "<|user|>\n<image>\nWhat color is it?<|end|>\n<|assistant|>\nred<|end|>\n"
        "<|user|>\nWhere is it?<|end|>\n<|assistant|>\nnorth<|end|>\n<|endoftext|>"
    ),
    stop=("<|end|>", "<|assistant|>", "<|endoftext|>"),
)
