"""Types shared by all sections of the study file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

# Names become parts of file names, so they hold no separators, and leave room for what is added
# below the usual limit of 255 characters.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=200)]


def _no_truth_value(value: Any) -> Any:
    """Refuse `yes` and `true`, which Python takes for 1."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "Input should be a number")
    return value


Number = BeforeValidator(_no_truth_value)
Ratio = Annotated[float, Number, Field(gt=0, le=1)]
Rate = Annotated[float, Number, Field(gt=0, allow_inf_nan=False)]
Positive = Annotated[int, Number, Field(ge=1)]
NonNegative = Annotated[int, Number, Field(ge=0)]
# Torch's random generators take 64 bits.
Seed = Annotated[int, Number, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """Base class of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")
