"""Import what every training needs before workers are forked.

The first optimiser makes torch load its compiler.
"""

import torch

torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])
