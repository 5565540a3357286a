"""What every engine that loads LoRA adapters accepts: the ranks and the linear modules that an adapter may have; and
the kinds of base (`model_type`) that read pictures beside text, of which the language tower alone is adapted. And how
long an answer may be where nobody says so (what is inspected, replayed and served has one length), and what is asked to
see whether an adapter is at work."""

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
RANKS = (8, 16, 32, 64)
MAX_NEW_TOKENS = 128
PROBE = "Please answer in one word."
PICTURE_BASES = ("qwen2_vl", "qwen2_5_vl", "idefics3", "smolvlm", "llava", "llava_next", "fast_vlm")
