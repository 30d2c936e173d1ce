//! Devices by name.

use candle_core::Device;

use crate::{Error, Result};

/// `cpu`, `cuda:0`, `metal`.
pub(crate) fn device(name: &str) -> Result<Device> {
    let (kind, index) = name.split_once(':').unwrap_or((name, "0"));
    let index: usize = index
        .parse()
        .map_err(|_| Error::input(format!("device {name:?}: write cpu, cuda:0 or metal")))?;
    match kind {
        "" | "cpu" => Ok(Device::Cpu),
        "cuda" => Device::new_cuda(index)
            .map_err(|e| Error::input(format!("device {name:?} cannot be had: {e}"))),
        "metal" => Device::new_metal(index)
            .map_err(|e| Error::input(format!("device {name:?} cannot be had: {e}"))),
        _ => Err(Error::input(format!(
            "device {name:?}: write cpu, cuda:0 or metal"
        ))),
    }
}
