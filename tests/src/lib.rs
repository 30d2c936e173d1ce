//! Tests over the whole workspace
