//! Run directories: settings, checkpoints, metrics, and the training call that fills them.
