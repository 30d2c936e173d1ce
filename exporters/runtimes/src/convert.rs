//! Element conversions that more than one runtime needs.

use half::f16;

/// Bit patterns to numbers.
pub(crate) fn halves(bits: &[u16]) -> Vec<f16> {
    bits.iter().map(|&b| f16::from_bits(b)).collect()
}

/// Numbers to bit patterns.
pub(crate) fn half_bits<'a>(values: impl IntoIterator<Item = &'a f16>) -> Vec<u16> {
    values.into_iter().map(|v| v.to_bits()).collect()
}

/// Bytes to truth values.
pub(crate) fn bools(bytes: &[u8]) -> Vec<bool> {
    bytes.iter().map(|&b| b != 0).collect()
}
