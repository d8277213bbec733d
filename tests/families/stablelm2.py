"""StableLM-2-zephyr: role names that are plain text; eos is bos and pad as well.

Source: stabilityai/stablelm-2-zephyr-1_6b, tokenizer_config.json and generation_config.json, as
quoted in public repositories.
"""

from tests.families.chat import Chat

STABLELM2 = Chat(
    name="stablelm-2-zephyr",
    architecture="stablelm",
    template=(
        "{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
        "{% endfor %}"
    ),
    special=("<|endoftext|>",),
    bos="<|endoftext|>",
    eos="<|endoftext|>",
    pad="<|endoftext|>",
    stops=("<|endoftext|>",),
    rendered=(
        "<|user|>\n<image>\nWhat color is it?<|endoftext|>\n<|assistant|>\nred<|endoftext|>\n"
        "<|user|>\nWhere is it?<|endoftext|>\n<|assistant|>\nnorth<|endoftext|>\n"
    ),
    stop=("<|endoftext|>",),
)
