//! A graph that can be run, by whichever engine.
