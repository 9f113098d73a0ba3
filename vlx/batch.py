"""The tensors that pass from inputs through a model to its objective.

B examples of N pairs of a text of T tokens with an image (N = 1 but for NLVR2 and choices); R regions of D features.

| key | shape | of |
|---|---|---|
| input_ids, text_mask, token_type_ids | [B,N,T] | tokens; the last where a text has two segments |
| regions, boxes, region_mask | [B,N,R,D] [B,N,R,4] [B,N,R] | regions; boxes are x1 y1 x2 y2 in 0..1 of the image |
| pixels, sampled_grid_features | [B,N,3,height,width] [B,N,K] | photos; in training the grid features that are read |
| packing | [B*N,L] | the order of text and regions without the padding between them |
| labels, targets | [B] [B,A] | the label; the score of each of A answers, where they have scores |
| targets, candidates | [B,R] [B,C,4] | of grounding: the overlap of each region; the boxes to choose from |
| teacher_logits, labeled_mask | [B,A] [B] | distillation: cached logits; which examples have a label to train on |

Pre-training has no N and adds masked_positions, mlm_labels, itm_labels, qa_labels and the targets of masked regions
(inputs.pretraining, inputs.region_masking).
"""

from torch import Tensor

Batch = dict[str, Tensor]
