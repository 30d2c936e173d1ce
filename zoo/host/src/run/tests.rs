#[path = "tests/checkpoints.rs"]
mod checkpoints;
#[path = "tests/training.rs"]
mod training;
