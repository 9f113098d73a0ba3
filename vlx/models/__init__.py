"""The architectures. `auto` registers all of them with transformers; `spec` tells what each can do."""

# AutoModel's import registers every architecture (vlx.models.auto). It comes before the modules of this package, since
# one that triggered the registration halfway through its own import would be imported in a circle.
from transformers.models.auto import modeling_auto  # noqa: F401
