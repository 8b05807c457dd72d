"""HdLM: joint accuracy on CLINC150 and WoS; speed of the coarse step and of decoding."""
