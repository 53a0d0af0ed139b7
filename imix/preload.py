"""What workers need loaded, besides the modules of their work: import it before they are forked.

torch loads its compiler at the first step of an optimiser; each worker would do so again.
"""

import torch

_parameter = torch.nn.Parameter(torch.zeros(1))
_parameter.grad = torch.zeros(1)
torch.optim.SGD([_parameter], lr=0.0, momentum=0.9).step()
