"""OLMo-2-Instruct: role names that are plain text; a line break after every answer but the last.

Source: allenai/OLMo-2-1124-7B-Instruct, tokenizer_config.json and generation_config.json, as
quoted in public repositories.
"""

from tests.families.chat import Chat

OLMO2 = Chat(
    name="olmo-2-instruct",
    architecture="olmo2",
    template=(
        "{{ bos_token }}"
        "{% for message in messages %}"
        "{% if message['role'] == 'assistant' %}"
        "{{ '<|assistant|>\n' + message['content'] + eos_token }}"
        "{% if not loop.last %}{{ '\n' }}{% endif %}"
        "{% else %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '\n' }}{% endif %}"
        "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
        "{% endfor %}"
    ),
    special=("<|endoftext|>", "<|pad|>"),
    bos="<|endoftext|>",
    eos="<|endoftext|>",
    pad="<|pad|>",
    stops=("<|endoftext|>",),
    rendered=(
        "<|endoftext|><|user|>\n<image>\nWhat color is it?\n<|assistant|>\nred<|endoftext|>\n"
        "<|user|>\nWhere is it?\n<|assistant|>\nnorth<|endoftext|>"
    ),
    stop=("<|endoftext|>",),
)
