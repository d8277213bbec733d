"""Vicuna-1.5, a Llama 2 without a chat template; LLaVA-1.5 and we write the conversation.

Source: lmsys/vicuna-7b-v1.5, tokenizer_config.json (bos <s>, eos </s>, pad <unk>, add_bos_token)
and generation_config.json; conversation template `vicuna_v1` of haotian-liu/LLaVA. The repository
has pytorch_model*.bin only, no safetensors.
"""

from tests.families.chat import Chat

VICUNA = Chat(
    name="vicuna-1.5",
    architecture="llama",
    template=None,
    special=("<unk>", "<s>", "</s>"),
    bos="<s>",
    eos="</s>",
    pad="<unk>",
    adds_bos=True,
    stops=("</s>",),
    generation={"max_length": 4096, "temperature": 0.9, "top_p": 0.6},
    rendered=(
        "<s>USER: <image>\nWhat color is it? ASSISTANT: red</s>"
        "USER: Where is it? ASSISTANT: north</s>"
    ),
    stop=("</s>",),
)
