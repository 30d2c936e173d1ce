//! Where to compute.

use std::{fmt, str::FromStr};

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no device: write cpu, cuda:0, tensorrt:0, coreml, directml or webgpu (the number chooses among several)"
)]
pub struct UnknownDevice(String);

/// A device, written `cpu`, `cuda:0`, `tensorrt:0`, `coreml`, `directml` or `webgpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Device {
    /// The processor; every runtime has it.
    #[default]
    Cpu,
    /// An NVIDIA GPU through CUDA, by number.
    Cuda(u32),
    /// An NVIDIA GPU through TensorRT, by number; what TensorRT does not take runs on the same GPU through CUDA.
    TensorRt(u32),
    /// Apple's Core ML.
    CoreMl,
    /// A GPU through DirectX 12, by number.
    DirectMl(u32),
    /// A GPU through WebGPU.
    WebGpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::TensorRt(index) => write!(f, "tensorrt:{index}"),
            Self::CoreMl => f.write_str("coreml"),
            Self::DirectMl(index) => write!(f, "directml:{index}"),
            Self::WebGpu => f.write_str("webgpu"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let bad = || UnknownDevice(text.into());
        let (name, index) = match text.split_once(':') {
            // `parse` alone would take a sign; 2^31 and more do not fit a provider's option.
            Some((name, digits)) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                let index = digits.parse().ok().filter(|&i| i <= i32::MAX as u32);
                (name, Some(index.ok_or_else(bad)?))
            }
            Some(_) => return Err(bad()),
            None => (text, None),
        };
        match (name, index) {
            ("cpu", None) => Ok(Self::Cpu),
            ("cuda", index) => Ok(Self::Cuda(index.unwrap_or(0))),
            ("tensorrt", index) => Ok(Self::TensorRt(index.unwrap_or(0))),
            ("coreml", None) => Ok(Self::CoreMl),
            ("directml", index) => Ok(Self::DirectMl(index.unwrap_or(0))),
            ("webgpu", None) => Ok(Self::WebGpu),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for (text, device, shown) in [
            ("cpu", Device::Cpu, "cpu"),
            ("cuda", Device::Cuda(0), "cuda:0"),
            ("cuda:3", Device::Cuda(3), "cuda:3"),
            ("tensorrt:0", Device::TensorRt(0), "tensorrt:0"),
            ("coreml", Device::CoreMl, "coreml"),
            ("directml", Device::DirectMl(0), "directml:0"),
            ("webgpu", Device::WebGpu, "webgpu"),
        ] {
            assert_eq!(text.parse::<Device>().unwrap(), device);
            assert_eq!(device.to_string(), shown);
        }
        for text in [
            "",
            "gpu",
            "CPU",
            "cpu:0",
            "cuda:",
            "cuda:-1",
            "cuda:+1",
            "cuda:0:1",
            "cuda:3000000000",
            "metal",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert!(error.contains("cuda:0"), "{text}: {error}");
        }
    }
}
