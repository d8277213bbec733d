"""What the README shows is what runs."""

from __future__ import annotations

import re
from pathlib import Path

from mordal_optuna.search.methods.catalogue import METHODS
from mordal_optuna.zoo.quickstart import QUICKSTART
from tests.search.synthetic import table

README = Path(__file__).parents[1] / "README.md"


def test_the_quick_start_is_as_large_as_is_said() -> None:
    """The number of its pairs, wherever it is told."""
    said = " ".join(README.read_text(encoding="utf-8").split())
    pairs = len(QUICKSTART.encoders) * len(QUICKSTART.llms)
    for words in (f"searches the {pairs} pairs", f"trains all {pairs} pairs", f"On {pairs} pairs"):
        assert words in said


def test_every_method_is_listed() -> None:
    """The README's list has an entry for each row of the catalogue, and no other."""
    text = README.read_text(encoding="utf-8")
    section = text.split("## Methods, and replaying them")[1].split("\n\n")[2]
    assert re.findall(r"^- `([\w-]+)`:", section, re.MULTILINE)
    assert set(re.findall(r"^- `([\w-]+)`:", section, re.MULTILINE)) == set(METHODS)


def test_the_plain_optuna_example_runs_and_stops_by_itself() -> None:
    """Literally, with a `train_and_score` that looks scores up."""
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    measure, asked = table(), []

    def train_and_score(encoder: str, llm: str, samples: int) -> float:
        asked.append(samples)
        level = {"clip": 0.22, "siglip": 0.20}[encoder] * {"llama": 1.1, "qwen": 1.0}[llm]
        return 1 - level * (samples / 16384) ** measure.slope

    names: dict[str, object] = {"train_and_score": train_and_score}
    exec(compile(code, str(README), "exec"), names)  # noqa: S102
    study = names["study"]
    assert study.best_params == {"vision_encoder": "siglip", "llm": "qwen"}  # type: ignore[attr-defined]
    assert "mordal:stopped_because" in study.user_attrs  # type: ignore[attr-defined]
    assert max(asked) == 16384
