"""The architectures. `auto` registers all of them with transformers; `spec` tells what each can do."""
