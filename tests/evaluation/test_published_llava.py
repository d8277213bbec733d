r"""A published LLaVA-1.5 is asked exactly what lmms-eval's own `llava_hf` asks it.

The checkpoint has the format of `llava-hf/llava-1.5-7b-hf`, with random weights: Llama's tokenizer
adds BOS, the chat template ("USER: <image>\n{question} ASSISTANT:", a space after every text)
writes none, and CLIP's image processor crops. Facts: its config.json, processor_config.json,
preprocessor_config.json and tokenizer_config.json, and transformers'
`convert_llava_weights_to_hf.py`.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers as tf
from PIL import Image
from tokenizers import Tokenizer, models, trainers

from mordal_optuna.evaluation.guards import import_lmms_eval
from mordal_optuna.models.assemble import assemble
from mordal_optuna.models.export import ModelCard, export
from tests.evaluation.fake_decord import fake_decord
from tests.families import random_encoder, random_llm

import_lmms_eval()

from mordal_optuna.evaluation import model as module  # noqa: E402 - after the guarded import
from mordal_optuna.evaluation.model import MordalVLM  # noqa: E402
from mordal_optuna.evaluation.reading import PromptReader  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mordal_optuna.evaluation.reading import Prompt

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] != 'system' %}{{ message['role'].upper() + ': ' }}{% endif %}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}"
    "{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
DOCUMENTS = (
    ("What color is the circle?", (64, 64), "red"),
    ("How many things are on this wide page?", (160, 60), "green"),
    ("Read the text.\nAnswer with a single word.", (50, 140), "blue"),
    ("What color is the circle?", (160, 60), "white"),
)


def llama_tokenizer() -> tf.LlamaTokenizer:
    """Llama's tokenizer class on a small vocabulary, with the two tokens that LLaVA adds."""
    special = ["<unk>", "<s>", "</s>"]
    learned = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    text = [f"USER:▁{q.replace(' ', '▁')}▁ASSISTANT:" for q, _, _ in DOCUMENTS]
    learned.train_from_iterator(
        text,
        trainers.BpeTrainer(
            special_tokens=[*special, *(f"<0x{n:02X}>" for n in range(256))], vocab_size=340
        ),
    )
    state = json.loads(learned.to_str())["model"]
    merges = [tuple(pair) for pair in state["merges"]]
    tokenizer = tf.LlamaTokenizer(vocab=state["vocab"], merges=merges, add_bos_token=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"], "pad_token": "<pad>"})
    return tokenizer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the format of LLaVA-1.5, in bf16."""
    folder = tmp_path_factory.mktemp("llava")
    tokenizer = llama_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(
            **sizes, num_hidden_layers=3, image_size=56, patch_size=14, initializer_range=0.5
        ),
        text_config=tf.LlamaConfig(
            **sizes, num_hidden_layers=2, vocab_size=len(tokenizer), initializer_range=0.5
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    tf.set_seed(0)
    tf.LlavaForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    tf.LlavaProcessor(
        tf.CLIPImageProcessor(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


@pytest.fixture
def llava_hf(monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """lmms-eval's own model; `decord`, which it imports for videos only, may be missing."""
    from accelerate.state import AcceleratorState, PartialState

    fake_decord(monkeypatch)
    from lmms_eval.models.chat.llava_hf import LlavaHf

    yield LlavaHf
    AcceleratorState._reset_state(reset_partial_state=True)
    assert not PartialState._shared_state


class Asked:
    """What a model was given: token ids of each prompt, pixel values, and its answers."""

    def __init__(self, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patched:
            self._record(model, patched)

    def _record(self, model: Any, patched: pytest.MonkeyPatch) -> None:
        self.ids: list[list[int]] = []
        self.pixels: list[torch.Tensor] = []
        vlm = model.model
        generate = vlm.generate

        def recorded(**inputs: Any) -> torch.Tensor:
            self.ids += inputs["input_ids"].tolist()
            return generate(**inputs)

        read = PromptReader.read

        def reads(reader: PromptReader, *given: Any) -> Prompt:
            prompt = read(reader, *given)
            self.ids.append(prompt.ids)
            return prompt

        if isinstance(model, MordalVLM):
            patched.setattr(module, "threads", lambda _: 1)  # they are read in their order
            patched.setattr(PromptReader, "read", reads)
        else:
            patched.setattr(vlm, "generate", recorded)
        hook = vlm.model.vision_tower.register_forward_pre_hook(
            lambda _, args, kwargs: self.pixels.append([*args, kwargs.get("pixel_values")][0]),
            with_kwargs=True,
        )
        model.task_dict = {"t": {"test": [dict(enumerate(d)) for d in DOCUMENTS]}}
        options = {"max_new_tokens": 12, "temperature": 0, "do_sample": False}
        requests = [
            SimpleNamespace(args=("", to_messages, dict(options), n, "t", "test"), task_name="t")
            for n in range(len(DOCUMENTS))
        ]
        self.answers = [result.text.strip() for result in model.generate_until(requests)]
        hook.remove()


def to_messages(document: dict[int, Any]) -> list[dict[str, Any]]:
    question, size, color = document[0], document[1], document[2]
    image = Image.new("RGB", size, "gray")
    image.paste(color, (0, 0, 20, 20))
    parts = [{"type": "image", "url": image}, {"type": "text", "text": question}]
    return [{"role": "user", "content": parts}]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_gets_the_tokens_and_pixels_of_llava_hf_and_answers_the_same(
    checkpoint: Path, llava_hf: type, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    ours = Asked(MordalVLM(str(checkpoint), device="cpu", dtype=dtype), monkeypatch)
    theirs = Asked(
        llava_hf(str(checkpoint), device="cpu", device_map="cpu", dtype=dtype), monkeypatch
    )
    bos = 1
    assert all(ids[0] == bos and ids.count(bos) == 1 for ids in theirs.ids)
    assert ours.ids == theirs.ids
    assert torch.equal(torch.cat(ours.pixels), torch.cat(theirs.pixels))
    assert ours.answers == theirs.answers
    assert len(set(ours.answers)) == len(DOCUMENTS), "answers that are alike show nothing"


def test_prompts_of_a_batch_are_those_of_single_ones(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Asked(MordalVLM(str(checkpoint), device="cpu", dtype="float32"), monkeypatch)
    together = Asked(
        MordalVLM(str(checkpoint), device="cpu", dtype="float32", batch_size=4), monkeypatch
    )
    assert together.answers == alone.answers
    assert together.ids == alone.ids


def test_an_export_gets_the_tokens_that_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tokenizer adds BOS, but its template does not write it, and so training had none."""
    parts = random_encoder(tmp_path, "clip"), random_llm(tmp_path, "llama", vocab_size=400)
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '</s>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    tokenizer.save_pretrained(parts[1].location)
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    vlm = assemble(*parts, lora=None, precision="fp32", seed=0, device=torch.device("cpu"))
    live = Asked(MordalVLM.from_live(vlm.model, vlm.processor, tasks=()), monkeypatch)
    export(vlm, tmp_path / "export", ModelCard(*parts, 16, "data", "digest", 0, {}))
    exported = Asked(MordalVLM(str(tmp_path / "export"), device="cpu"), monkeypatch)
    assert tokenizer.bos_token_id not in live.ids[0]
    assert exported.ids == live.ids
