//! What a generative model is written with: values that compute and record, layers, losses, the trainer
