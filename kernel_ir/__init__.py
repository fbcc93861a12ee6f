"""kir: an e-graph optimizer for compute kernels."""
