"""Debiased CKA of all pairs of 49 models on 2,048 images, widths 768 to 4,096.

    OMP_NUM_THREADS=2 uv run --with pytorch-cka==1.1.3 python -m benchmarks.cka.run --threads 2

Compared with the textbook formula (numpy, n x n matrices for every pair), with the public package
pytorch-cka (all Gram matrices of both sides, batched), and with the machine's peak: one large
matrix product of the same precision, timed in the same run. Double precision, best of three runs;
the textbook formula is timed on a few pairs and scaled to all pairs, as the result says.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from cka.cka import cka_from_features

from benchmarks.machine import machine
from mordal_optuna.representation.cka import cheaper_form, cka_matrix

if TYPE_CHECKING:
    from collections.abc import Callable

MODELS, IMAGES = 49, 2048
TEXTBOOK_PAIRS = 3


def main() -> None:
    """Measure and write `results.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    features = make_features()
    widths = [x.shape[1] for x in features.values()]
    device = torch.device(chosen.device)
    ours, matrix = best(
        lambda: cka_matrix(features, estimator="debiased", device=device), device, runs=3
    )
    single, matrix32 = best(
        lambda: cka_matrix(features, estimator="debiased", device=device, dtype=torch.float32),
        device,
        runs=3,
    )
    public, theirs = best(lambda: public_package(features, device), device, runs=2)
    pair_seconds, values = textbook(list(features.values())[-TEXTBOOK_PAIRS:])
    pairs = MODELS * (MODELS + 1) // 2
    operations = 2.0 * gram_multiplications(widths)
    peak64, peak32 = peak(torch.float64, device), peak(torch.float32, device)
    result = {
        "machine": machine("torch", "numpy", "pytorch-cka")
        | {"threads": chosen.threads, "device": device_name(device)},
        "models": MODELS,
        "images": IMAGES,
        "form": cheaper_form(IMAGES, widths),
        "seconds": {
            "ours, double": ours,
            "ours, single": single,
            "pytorch-cka, double": public,
            f"textbook numpy ({len(values)} pairs timed, scaled to {pairs})": pair_seconds * pairs,
        },
        "times_faster": {
            "than pytorch-cka": public / ours,
            "than the textbook": pair_seconds * pairs / ours,
        },
        "share_of_matmul_peak": {
            "double": operations / ours / peak64,
            "single": operations / single / peak32,
        },
        "matmul_peak_flops": {"double": peak64, "single": peak32},
        "largest_difference": {
            "from pytorch-cka": float(np.abs(np.maximum(matrix, 0) - theirs).max()),
            "from the textbook": float(
                np.abs(
                    matrix[-TEXTBOOK_PAIRS:, -TEXTBOOK_PAIRS:][np.triu_indices(TEXTBOOK_PAIRS)]
                    - values
                ).max()
            ),
            "of single from double": float(np.abs(matrix32 - matrix).max()),
        },
    }
    name = "results.json" if device.type == "cpu" else f"results-{device.type}.json"
    path = Path(__file__).parent / name
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


def make_features() -> dict[str, np.ndarray]:
    """Random features of all models, with a common component so that CKA is not trivial."""
    rng = np.random.default_rng(0)
    common = rng.normal(size=(IMAGES, 64))
    widths = np.linspace(768, 4096, MODELS).astype(int)
    return {
        f"model-{i}": common @ rng.normal(size=(64, width)) / 8 + rng.normal(size=(IMAGES, width))
        for i, width in enumerate(widths)
    }


def public_package(features: dict[str, np.ndarray], device: torch.device) -> np.ndarray:
    """CKA of all pairs by pytorch-cka, which uses the unbiased estimator."""
    tensors = [torch.as_tensor(x, device=device) for x in features.values()]
    return cka_from_features(tensors, tensors).cpu().numpy()


def textbook(features: list[np.ndarray]) -> tuple[float, np.ndarray]:
    """CKA of all pairs with n x n numpy matrices; seconds per pair, and the values."""
    start, values = time.perf_counter(), []
    for i in range(len(features)):
        for j in range(i, len(features)):
            k, m = (x @ x.T for x in (features[i], features[j]))
            values.append(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))
    return (time.perf_counter() - start) / len(values), np.array(values)


def hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Unbiased HSIC of two Gram matrices: Song et al. 2012, equation 5, as printed."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    ones = np.ones((n, 1))
    product = k @ m
    value = (
        np.trace(product)
        + (ones.T @ k @ ones) * (ones.T @ m @ ones) / ((n - 1) * (n - 2))
        - 2 / (n - 2) * (ones.T @ product @ ones)
    )
    return float(value.item()) / (n * (n - 3))


def gram_multiplications(widths: list[int]) -> float:
    """Multiplications for half of each Gram matrix and half of the matrix of their products."""
    grams = sum(IMAGES**2 * width / 2 for width in widths)
    return grams + IMAGES**2 / 2 * len(widths) ** 2


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of one large matrix product."""
    size = 3072 if device.type == "cpu" else 8192
    a = torch.randn(size, size, dtype=dtype, device=device)
    seconds, _ = best(lambda: a @ a, device, runs=5)
    return 2.0 * size**3 / seconds


def best(call: Callable[[], Any], device: torch.device, *, runs: int) -> tuple[float, Any]:
    """Fewest seconds of several runs after a warm-up run, and the last result."""
    result = call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        result = call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times), result


def device_name(device: torch.device) -> str:
    """Name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
