"""Documents a second: our chat model against lmms-eval's `llava_hf`, chat and simple.

    OMP_NUM_THREADS=1 uv run --with decord python -m benchmarks.evaluation_throughput.run

The model is a small LLaVA with random weights in fp32, exported like any winner. The documents are
drawn multiple-choice questions in AI2D's schema, prompted by lmms-eval's task code, with 16 tokens
per answer. There is one question per picture, as in VizWiz, ScienceQA and MMMU; or four, as on a
page or a diagram; or 32, as in GQA (12,578 questions on 398 pictures). All models must give the
same answers. Only model time is counted, in CPU seconds of this process, so the machine may do
other work. `llava_hf` accepts one document at a time only. With a GPU, `--device cuda --size 7b`
uses LLaVA-1.5-7B's shapes in bf16 and wall-clock seconds.

The share of the peak is the matrix products that the documents need, with each picture encoded
once, over those that the device does in the same time in the largest plain product. In `llava_hf`,
which encodes a picture for every question, the products that are repeated do not count.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import machine

RESULTS = Path(__file__).parent / "results.json"
# Vision width, layers, image size, patch; LLM width, layers, heads, intermediate, vocabulary.
SIZES = {
    "small": ((256, 6, 224, 16), (384, 8, 6, 1024, 4096)),
    "7b": ((1024, 24, 336, 14), (4096, 32, 32, 11008, 32000)),
}
# Template for llava_hf's simple version; it renders the same text as our chat template.
TEMPLATE = "{{ bos_token }}USER: {{ messages[0]['content'] }} ASSISTANT:"


def parts(folder: Path, size: str, texts: list[str]) -> tuple[Path, Path]:
    """Save an encoder, an LLM with random weights, and a tokenizer of the texts, as on the hub."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        CLIPVisionModel,
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
    )

    (width, layers, image, patch), (hidden, depth, heads, inner, vocabulary) = SIZES[size]
    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        image_size=image,
        patch_size=patch,
    )
    CLIPVisionModel(vision).save_pretrained(folder / "encoder")
    side = {"height": image, "width": image}
    CLIPImageProcessor(size={"shortest_edge": image}, crop_size=side).save_pretrained(
        folder / "encoder"
    )
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    ).save_pretrained(folder / "llm")
    language = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    LlamaForCausalLM(language).save_pretrained(folder / "llm")
    return folder / "encoder", folder / "llm"


def model_folder(folder: Path, size: str, texts: list[str]) -> Path:
    """Assemble encoder and LLM and export them as `mordal export` does."""
    from mordal_optuna.models.assemble import assemble
    from mordal_optuna.models.export import ModelCard, export
    from mordal_optuna.pool import ModelSource

    encoder, llm = parts(folder, size, texts)
    sources = ModelSource("encoder", str(encoder)), ModelSource("llm", str(llm))
    cpu = torch.device("cpu")
    vlm = assemble(*sources, lora=None, precision="fp32", seed=0, device=cpu)
    export(vlm, folder / "model", ModelCard(*sources, 0, "none", "none", 0, {}))
    return folder / "model"


def prompts(config: dict[str, Any]) -> list[str]:
    """Prompts of the documents."""
    from lmms_eval.api.task import ConfigurableMessagesTask

    task = ConfigurableMessagesTask(config=dict(config), model_name="x")
    return [task.doc_to_text(doc) for doc in task.dataset_no_image["test"]]


class Clock:
    """CPU seconds of this process on a CPU, wall-clock seconds on a GPU."""

    def __init__(self, device: str) -> None:
        """Choose the clock.

        Args:
            device: name of the device in torch.
        """
        self._cuda = device.startswith("cuda")

    def __call__(self) -> float:
        """Current time in seconds."""
        if self._cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()


def evaluate(
    model: Any, config: dict[str, Any], simple: bool, clock: Clock, limit: int | None = None
) -> tuple[float, list[str]]:
    """Run lmms-eval's evaluation; seconds in `generate_until`, and the answers."""
    from lmms_eval.api.task import ConfigurableMessagesTask, ConfigurableTask
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from mordal_optuna.evaluation.guards import quiet

    generate, seconds = model.generate_until, []

    def timed(requests: list[Any]) -> list[Any]:
        start = clock()
        generated = generate(requests)
        seconds.append(clock() - start)
        return generated

    model.generate_until = timed
    model.clean = lambda: None
    kind = ConfigurableTask if simple else ConfigurableMessagesTask
    with quiet():
        task = kind(config=dict(config), model_name="x")
        evaluated = simple_evaluate(
            model=model,
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            distributed_executor_backend="torchrun",
            bootstrap_iters=0,
            limit=limit,
        )
    model.generate_until = generate
    samples = sorted(evaluated["samples"]["ai2d"], key=lambda sample: sample["doc_id"])
    return seconds[0], [sample["resps"][0][0] for sample in samples]


def rivals(folder: Path, device: str, dtype: str) -> dict[str, tuple[Any, bool]]:
    """lmms-eval's models of the exported folder, and whether they are of its simple kind."""
    from lmms_eval.models.chat.llava_hf import LlavaHf as Chat
    from lmms_eval.models.simple.llava_hf import LlavaHf as Simple

    options = {"pretrained": str(folder), "device": device, "device_map": device, "dtype": dtype}
    return {
        "llava_hf, chat": (Chat(**options), False),
        "llava_hf, simple": (Simple(**options, chat_template=TEMPLATE), True),
    }


def write_documents(folder: Path, documents: int, questions: int) -> None:
    """Write diagrams with several questions each, in AI2D's schema.

    Args:
        folder: receives a Parquet file and a dataset card.
        documents: number of questions in all.
        questions: number of questions per diagram.
    """
    from datasets import Dataset, Features, Image, List, Value

    from mordal_optuna.zoo.drawing.diagrams import random_diagram
    from mordal_optuna.zoo.drawing.multiple_choice import offer
    from mordal_optuna.zoo.drawing.questions import ask_diagram

    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    while len(rows) < documents:
        diagram = random_diagram(rng)
        file = io.BytesIO()
        diagram.draw(rng).save(file, "png")
        for _ in range(min(questions, documents - len(rows))):
            choice = offer(ask_diagram(diagram, rng), rng)
            rows.append(
                {
                    "question": choice.text,
                    "options": list(choice.options),
                    "answer": str(choice.answer),
                    "image": {"bytes": file.getvalue(), "path": None},
                }
            )
    text = Value("string")
    features = Features(question=text, options=List(text), answer=text, image=Image())
    folder.mkdir(parents=True)
    Dataset.from_list(rows, features=features).to_parquet(folder / "test.parquet")
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: test\n"
        "    path: test.parquet\n---\n"
    )


def peak(device: str, dtype: str) -> float:
    """Multiplications and additions a second in a product of square matrices, the best of ten."""
    side = 8192 if device.startswith("cuda") else 1024
    left = torch.randn(side, side, device=device, dtype=getattr(torch, dtype))
    clock, best = Clock(device), float("inf")
    for _ in range(10):
        start = clock()
        left @ left
        best = min(best, clock() - start)
    return 2 * side**3 / best


def needed(size: str, texts: list[str], folder: Path, questions: int, answer: int) -> float:
    """Multiplications and additions per document in the layers' matrix products.

    Args:
        size: key of `SIZES`.
        texts: prompts of all documents.
        folder: exported model, whose tokenizer is used.
        questions: number of questions per picture.
        answer: tokens per answer.
    """
    from transformers import AutoTokenizer

    (width, layers, image, patch), (hidden, depth, _, inner, vocabulary) = SIZES[size]
    patches = (image // patch) ** 2
    # Attention's four projections and the MLP: two matrices in the encoder, three in the LLM.
    of_encoder = layers * 12 * width**2 * (patches + 1) + patches * hidden * (width + hidden)
    of_token = depth * (4 * hidden**2 + 3 * hidden * inner)
    tokens = [len(ids) for ids in AutoTokenizer.from_pretrained(folder)(texts)["input_ids"]]
    per_picture = of_encoder + of_token * patches
    per_question = of_token * (sum(tokens) / len(tokens) + answer) + answer * hidden * vocabulary
    return 2 * (per_picture / questions + per_question)


def table(chosen: argparse.Namespace, scratch: Path, questions: int) -> list[dict[str, Any]]:
    """One row per model; all are compared with the first."""
    import lmms_eval.tasks
    from lmms_eval import utils

    from mordal_optuna.evaluation.model import MordalVLM

    data = scratch / f"{questions}" / "ai2d"
    write_documents(data, chosen.documents, questions)
    config = utils.load_yaml_config(f"{lmms_eval.tasks.__path__[0]}/ai2d/ai2d.yaml")
    config |= {"dataset_path": str(data), "dataset_kwargs": {"cache_dir": f"{data}-cache"}}
    texts = prompts(config)
    folder = model_folder(scratch / f"{questions}", chosen.size, texts)
    limit = config["generation_kwargs"]["max_new_tokens"]
    products = needed(chosen.size, texts, folder, questions, limit)
    most = peak(chosen.device, chosen.dtype)
    measured = rivals(folder, chosen.device, chosen.dtype)
    for size in (1, 8, 32, "auto"):
        model = MordalVLM(str(folder), size, chosen.device, chosen.dtype)
        measured[f"mordal_vlm, {size} at once"] = (model, False)
    clock = Clock(chosen.device)
    rows: list[dict[str, Any]] = []
    expected: list[str] | None = None
    for name, (model, simple) in measured.items():
        evaluate(model, config, simple, clock, limit=2)  # warm-up, not counted
        seconds, answers = evaluate(model, config, simple, clock)
        expected = expected or answers
        equal = sum(a.strip() == e.strip() for a, e in zip(answers, expected, strict=True))
        rate = chosen.documents / seconds
        times = rate / rows[0]["rate"] if rows else 1.0
        share = rate * products / most
        row = {"model": name, "rate": rate, "times": times, "share": share, "equal": equal}
        rows.append(row)
        print(
            f"{questions:2} questions a picture  {name:26} {rate:7.2f} documents/s "
            f"{times:5.2f} times  {100 * share:3.0f} % of the peak  "
            f"{equal} of {chosen.documents} answers equal",
            flush=True,
        )
    return rows


def main() -> None:
    """Measure all models, print the table and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=96)
    parser.add_argument("--questions", type=int, nargs="+", default=[1, 4, 32])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--size", choices=list(SIZES), default="small")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args()
    chosen.dtype = chosen.dtype or ("bfloat16" if chosen.device != "cpu" else "float32")
    from mordal_optuna.evaluation.guards import import_lmms_eval

    import_lmms_eval()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        tables = {q: table(chosen, Path(scratch), q) for q in chosen.questions}
    about = machine("torch", "transformers", "lmms-eval")
    content = {"machine": about, "size": chosen.size, "dtype": chosen.dtype}
    content |= {"device": chosen.device, "documents": chosen.documents}
    content |= {"questions_a_picture": tables}
    chosen.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
