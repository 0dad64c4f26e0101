"""The model table: which names exist, and what each stands for. Pure."""
