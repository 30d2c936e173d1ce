//! CPU kernels on slices: convolutions, matrix products, fused element-wise operations
