"""What the components of the world model, the policy and the critic are asked.

All prompts begin alike (system turn, situation, dialogue); the task stands behind it. No paper's
wording is known; these are chosen here.
"""

SYSTEM = "A seeker and a supporter talk. You know what people in such talks feel, want and say."
KNOWN = "Dialogue so far:\n"
POSTERIOR = "\nName what the seeker feels and wants in the last message by one letter each.\n"
PRIOR = "\nName what the seeker will feel and want in the next message by one letter each.\n"
PREVIOUS = "\nThe seeker's state before: "
STATE = "\nThe seeker's state: "
OBSERVE = "\nWrite the seeker's next message."
REPLY = "\nWrite the supporter's next message."
SEEKER_SAYS = "Seeker:"
SUPPORTER_SAYS = "Supporter:"
