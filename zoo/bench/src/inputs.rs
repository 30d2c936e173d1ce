//! Weights, data and noise of a network: from a file of PyTorch's, or drawn.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use zoo_sdk::{Array, Binarization, DataSpec, PortRole, Stream, Tensors};

use crate::{Error, Network, Result, Size, networks::Settings};

/// All that a training starts from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Parameters and buffers by path; among them the images `x` and the noise.
    pub tensors: Tensors,
    /// Their images.
    pub size: Size,
}

impl Inputs {
    /// Drawn from `seed` by the counter-based generator. `python/torch_suite.py` draws the same.
    pub fn drawn(network: Network, size: Size, seed: u64) -> Result<Self> {
        if size.batch == 0 || size.pixels == 0 || !size.pixels.is_multiple_of(4) {
            return Err(Error::input(format!(
                "the suite takes at least one image whose sides are a multiple of 4, not {} of {} pixels",
                size.batch, size.pixels
            )));
        }
        let wrong = |source: zoo_nn::Error| Error::Network {
            network: network.name(),
            source: source.into(),
        };
        let settings = Settings { batch: size.batch };
        let mut tensors = network
            .fresh(&settings, &data_spec(size), seed)
            .map_err(wrong)?;

        let stream = Stream::new(seed).named("data");
        let mut insert = |name: &str, shape: &[usize], values: Vec<f32>| {
            Array::f32(shape, values)
                .map(|array| tensors.insert(name.into(), array))
                .map_err(|e| Error::input(e.to_string()))
        };
        let pixels = stream.named("x").uniform(size.batch * size.pixels.pow(2));
        let binary = pixels
            .into_iter()
            .map(|u| f32::from(u8::from(u > 0.5)))
            .collect();
        insert("x", &[size.batch, 1, size.pixels, size.pixels], binary)?;
        if let Some((name, width)) = network.noise() {
            let noise = stream.named(name).normal(size.batch * width);
            insert(name, &[size.batch, width], noise)?;
        }
        Ok(Self { tensors, size })
    }

    /// From a safetensors file with the names of PyTorch's parameters, or the file `<network>.safetensors` in a folder.
    pub fn read(network: Network, path: &Path) -> Result<Self> {
        let file = Self::file(network, path);
        let problem = |message: String| Error::Weights {
            path: file.clone(),
            message,
        };
        let bytes = std::fs::read(&file).map_err(|e| problem(e.to_string()))?;
        let tensors = decode(&bytes).map_err(problem)?;
        let Some(x) = tensors.get(PortRole::Image.name()) else {
            return Err(problem(
                "has no tensor \"x\" with the images: write it with torch_suite.py --save".into(),
            ));
        };
        let size = match *x.shape() {
            [batch, 1, height, width] if height == width => Size {
                batch,
                pixels: height,
            },
            ref shape => {
                return Err(problem(format!(
                    "images x have shape {shape:?}, not (N, 1, H, H)"
                )));
            }
        };
        Ok(Self { tensors, size })
    }

    /// The file of `network` in `path`, which may be that file itself.
    pub fn file(network: Network, path: &Path) -> PathBuf {
        if !path.is_dir() {
            return path.to_path_buf();
        }
        let named = |stem: &str| path.join(format!("{stem}.safetensors"));
        let ours = named(network.name());
        if ours.is_file() {
            ours
        } else {
            named(network.file_stem())
        }
    }

    /// The images as a data set's.
    pub(crate) fn images(&self) -> Result<&[f32]> {
        let x = self.tensors.get(PortRole::Image.name()).map(Array::as_f32);
        x.and_then(Result::ok)
            .ok_or_else(|| Error::input("there are no images x"))
    }
}

/// What the trainer is told of the images.
pub(crate) fn data_spec(size: Size) -> DataSpec {
    DataSpec {
        name: "suite".into(),
        image: [1, size.pixels, size.pixels],
        classes: Vec::new(),
        binarization: Binarization::None,
        sha256: String::new(),
        ..DataSpec::default()
    }
}

/// All f32 tensors. Masks are left out: they belong to the networks.
fn decode(bytes: &[u8]) -> Result<Tensors, String> {
    let (header, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|e| format!("is no safetensors file: {e}"))?;
    let data = bytes.get(header + 8..).unwrap_or_default();
    let mut tensors = Tensors::new();
    for (name, info) in metadata.tensors() {
        if name.ends_with(".mask") {
            continue;
        }
        if info.dtype != Dtype::F32 {
            return Err(format!(
                "tensor {name:?} is {:?}; the suite computes in f32",
                info.dtype
            ));
        }
        let (start, end) = info.data_offsets;
        let values = data
            .get(start..end)
            .ok_or_else(|| format!("tensor {name:?} ends after the file"))?;
        let array = Array::from_le_bytes(zoo_sdk::DType::F32, info.shape.clone(), values)
            .map_err(|e| format!("tensor {name:?}: {e}"))?;
        tensors.insert(name, array);
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_inputs_have_the_names_of_the_script() {
        let size = Size {
            batch: 2,
            pixels: 8,
        };
        let names = |network| {
            let inputs = Inputs::drawn(network, size, 0).unwrap();
            inputs.tensors.into_keys().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            names(Network::MlpVae),
            "eps m.fc1.bias m.fc1.weight m.fc3.bias m.fc3.weight m.fc4.bias m.fc4.weight m.lv.bias m.lv.weight m.mu.bias m.mu.weight x"
        );
        assert!(names(Network::Dcgan).contains("g.bn1.running_var g.bn1.weight"));
        assert!(names(Network::GatedPixelCnn).contains("m.layers.6.v2h.bias"));
        assert!(names(Network::RowLstm).contains("m.s2s.weight"));
    }

    #[test]
    fn inputs_that_do_not_fit_are_refused() {
        let size = |batch, pixels| Inputs::drawn(Network::Dcgan, Size { batch, pixels }, 0);
        for (batch, pixels) in [(0, 28), (1, 0), (1, 30)] {
            assert!(matches!(size(batch, pixels), Err(Error::Input(_))));
        }
        assert!(decode(b"no tensors").unwrap_err().contains("safetensors"));
        let folder = tempfile::tempdir().unwrap();
        let message = Inputs::read(Network::RowLstm, folder.path())
            .unwrap_err()
            .to_string();
        assert!(message.contains("rowlstm.safetensors"), "{message}");
    }
}
