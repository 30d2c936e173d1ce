//! The errors of this crate: what was wrong with a shape or a slice, and where.

/// Why a kernel refused its arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A slice does not have the length that the shape asks for.
    #[error("{op}: `{what}` has {found} values, the shape needs {expected}")]
    Length {
        /// The kernel.
        op: &'static str,
        /// The argument.
        what: &'static str,
        /// Values that the shape asks for.
        expected: usize,
        /// Values in the slice.
        found: usize,
    },
    /// A field of a shape cannot be used.
    #[error("{op}: {what}")]
    Shape {
        /// The kernel.
        op: &'static str,
        /// The field, its value, and what would be accepted.
        what: String,
    },
}

/// Refuses a slice whose length is not the one its shape asks for.
pub(crate) fn expect_len(
    op: &'static str,
    what: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), KernelError> {
    if found == expected {
        return Ok(());
    }
    Err(KernelError::Length {
        op,
        what,
        expected,
        found,
    })
}

/// The product of `dims`, or an error if it does not fit a slice.
pub(crate) fn product(
    op: &'static str,
    what: &'static str,
    dims: &[usize],
) -> Result<usize, KernelError> {
    let limit = isize::MAX as usize / size_of::<f32>();
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d).filter(|&n| n <= limit))
        .ok_or_else(|| KernelError::Shape {
            op,
            what: format!("`{what}` of shape {dims:?} is larger than memory"),
        })
}
