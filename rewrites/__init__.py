"""Rules, e-graphs and saturation: rewrites kernels under stated licences."""
