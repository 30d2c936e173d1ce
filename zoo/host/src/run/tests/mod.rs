mod checkpoints;
mod training;
