//! The tests that any plugin must pass
