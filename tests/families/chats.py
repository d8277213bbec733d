"""All families of chat models."""

from tests.families.gemma import GEMMA2, GEMMA3
from tests.families.llama3 import LLAMA3
from tests.families.mistral import MISTRAL
from tests.families.olmo2 import OLMO2
from tests.families.phi3 import PHI3
from tests.families.qwen3 import QWEN3
from tests.families.qwen25 import QWEN25
from tests.families.smollm3 import SMOLLM3
from tests.families.stablelm2 import STABLELM2
from tests.families.vicuna import VICUNA

CHATS = {
    chat.name: chat
    for chat in (
        *(VICUNA, LLAMA3, QWEN25, QWEN3, SMOLLM3, GEMMA2, GEMMA3, PHI3, MISTRAL, OLMO2),
        *(STABLELM2,),
    )
}
