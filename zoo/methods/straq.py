"""straQ*: convert language model into a value-based strategic planner.

arXiv 2505.06987 (ACL 2025 Industry). Emotional support as a Markov decision process whose actions
are the strategies of the next supporter turn. A causal language model is the Q-network, without any
new parameter: asked a multiple-choice question about the state, the score that it gives a letter is
the value of that strategy. It learns by temporal differences instead of cross-entropy; the best
letter is the plan, and any other dialogue model writes the reply.

    (1)  s_t = (description, emotion, history, query),  a_t in A..H,  s' = s_{t+1} as logged
    (2)  Q_theta(s, a) = score of the letter a at the last position of I(s)
    (3)  y = r + gamma (1 - done) max_a' Q_phi(s', a')             no gradient
    (4)  L = mean over (s, a) of (Q_theta(s, a) - y)^2
    (5)  phi <- theta after every C-th optimiser step
    (6)  a* = argmax_a Q_theta(s, a),  reply = responder(s, a*, definition of a*)

straQ*-imit: r = +1 for the logged strategy, -1 for another one, as many of these as of those.
straQ*-distill: r is a judge's grade, 0 to 5.

Shapes: S states, N judged pairs (s, a), K strategies, D width.

Follows: the language model as Q-network with all K values in one pass, plain max with the target
network (not double DQN), gamma 0.85, C = 10, the launcher's optimiser (Adam 0.9/0.95, no decay,
clip 1, 5e-6, 3 % warm-up, cosine to a tenth).
Deviates: the pairs of one state share its pass, so they are always in one batch; the released code
has one pair a row. The release copies the target every 3 steps and hands over one module as both
networks; here the target is a real copy, of what is trained only. Its reward function is blank.
Unknown in the paper, chosen here: Q is the letter's raw logit, `mean_logit` (the account says both
"average log-probability" and "average logit", and a letter is one token, so there is nothing to
average). A log-probability cannot reach a positive target; `token_prob`, the released code's
softmax over the whole vocabulary, saturates, so grades are scaled by (1 - gamma) / 5 with it. The
state after a strategy that was not used is not known: the logged one stands in. Nothing follows the
last decision. The target runs without dropout. Ties go to the first strategy.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.backbone import Backbone
from zoo.decoding.prefix import option_logits
from zoo.encoding import Batch
from zoo.errors import InputError
from zoo.losses.cross_entropy import Term
from zoo.losses.temporal_difference import td_errors, td_targets
from zoo.methods.planning import Plan, PlanningModule
from zoo.methods.replying import evaluating
from zoo.methods.responder import Responder
from zoo.module import Optimizer, as_config, total_loss
from zoo.nn.blocks import Blocks, num_blocks, place
from zoo.prompts.decisions import Decision
from zoo.prompts.planning import current, reply_query
from zoo.prompts.rewards import MAX_GRADE, Grade, Judged, feedback, graded, imitate
from zoo.prompts.strategies import ACTS, SUPPORT
from zoo.prompts.transitions import VALUES, TransitionBatch, TransitionEncoder
from zoo.records import Dialogue
from zoo.target import Target

RELEASED = Optimizer(
    lr=5e-6, schedule="cosine", warmup_ratio=0.03, weight_decay=0.0, beta2=0.95, final_ratio=0.1
)
