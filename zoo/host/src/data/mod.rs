//! Data sets: reading, decoding, splitting, summarising.
