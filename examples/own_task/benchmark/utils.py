"""How lmms-eval shows a document of the benchmark to a model."""


def image(doc):
    """The picture of a document."""
    return [doc["image"].convert("RGB")]
