//! Scratch buffers kept per thread, so that a training step does not allocate.

use std::cell::RefCell;

/// One cache line; buffers made of it are aligned for every vector width.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

thread_local! {
    static FREE: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `body` a buffer of `len` floats with unspecified (stale) content, aligned to 64 bytes.
///
/// Calls may nest, on one thread and through rayon: each gets a buffer of its own.
pub(crate) fn with<T>(len: usize, body: impl FnOnce(&mut [f32]) -> T) -> T {
    let lines = len.div_ceil(16);
    let mut buffer = FREE
        .with_borrow_mut(|free| {
            // The smallest that is large enough, else the largest, which then grows.
            let fits = (0..free.len())
                .filter(|&i| free[i].len() >= lines)
                .min_by_key(|&i| free[i].len());
            let pick = fits.or_else(|| (0..free.len()).max_by_key(|&i| free[i].len()))?;
            Some(free.swap_remove(pick))
        })
        .unwrap_or_default();
    if buffer.len() < lines {
        buffer.clear(); // nothing to carry over when it moves
        buffer.resize(lines, Line([0.0; 16]));
    }
    // SAFETY: `Line` is 16 floats without padding, and `lines * 16 >= len` of them are initialised.
    let floats = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<f32>(), len) };
    let result = body(floats);
    FREE.with_borrow_mut(|free| free.push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::with;

    #[test]
    fn nested_buffers_are_distinct_and_aligned() {
        for _ in 0..3 {
            with(100, |a| {
                a.fill(1.0);
                with(1000, |b| {
                    b.fill(2.0);
                    assert_eq!(b.as_ptr() as usize % 64, 0);
                });
                assert_eq!(a.as_ptr() as usize % 64, 0);
                assert!(a.len() == 100 && a.iter().all(|&v| v == 1.0));
            });
        }
        with(0, |a| assert!(a.is_empty()));
    }
}
