//! Where coarser resolutions are new in the raster of the image's pixels.

use zoo_nn::{DType, Device, Result, Tensor, Value, concat};

/// What is told to the pixels of a row for each resolution but the first: whether its row is new; then one of four is 1 for where the pixel stands in the
/// two by two of the next finer resolution, the first of them if it is new itself.
pub const FLAGS: usize = 5;

/// For resolutions from the second on, whether row `number` (N,1,1) is new there.
pub fn new_at(number: &Value, level: usize) -> Value {
    let part = number.mul_scalar(1.0 / (1 << level) as f64);
    part.sub(&part.floor())
        .less_scalar(0.25 / (1 << level) as f64)
}

/// Which columns of a row of `width` are multiples of 2^level, and which are not, as the flags of that resolution take them: (1,FLAGS,W).
pub fn columns(width: usize, level: usize, device: &Device) -> Result<Value> {
    let mut flags = Vec::with_capacity(FLAGS * width);
    for flag in 0..FLAGS {
        flags.extend((0..width).map(|column| {
            let is_new = column % (1 << level) == 0;
            let holds = match flag {
                0 => true,
                1 | 3 => is_new,
                _ => !is_new,
            };
            f32::from(u8::from(holds))
        }));
    }
    let flags = Tensor::from_vec(flags, (1, FLAGS, width), &Device::Cpu)?;
    Ok(Value::constant(flags.to_device(device)?))
}

/// The flags of a row at one resolution, (N,FLAGS,W).
pub fn flags(is_new: &Value, columns: &Value) -> Value {
    let new = is_new.cast(DType::F32); // (N,1,1)
    let old = new.neg().add_scalar(1.0);
    concat(&[&new, &new, &new, &old, &old], 1).mul(columns)
}

/// Every `step`-th column of (N,C,W).
pub fn every(x: &Value, step: usize) -> Value {
    if step == 1 {
        return x.clone();
    }
    let &[_, maps, width] = x.dims() else {
        return x.clone(); // it failed
    };
    x.reshape(&[0, maps as i64, (width / step) as i64, step as i64])
        .slice(3, 0, 1)
        .squeeze(3)
}

/// Columns of (N,C,W') repeated to (N,C,W).
pub fn repeated(x: &Value, width: usize) -> Value {
    let &[_, maps, own] = x.dims() else {
        return x.clone(); // it failed
    };
    if own == width {
        return x.clone();
    }
    x.unsqueeze(3)
        .expand(&[1, maps, own, width / own])
        .reshape(&[0, maps as i64, width as i64])
}
