"""What every engine that loads LoRA adapters accepts: the ranks and the linear modules that an adapter may have."""

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (8, 16, 32, 64)
