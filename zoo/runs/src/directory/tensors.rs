//! Tensors in safetensors files. The same tensors give the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, SafeTensors, View};
use serde_json::Value as Json;
use zoo_sdk::{Array, DType, Tensors};

struct Borrowed<'a>(&'a Array);

impl View for Borrowed<'_> {
    fn dtype(&self) -> Dtype {
        match self.0.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::F16 => Dtype::F16,
            DType::I64 => Dtype::I64,
            DType::I32 => Dtype::I32,
            DType::U8 => Dtype::U8,
            DType::Bool => Dtype::BOOL,
        }
    }

    fn shape(&self) -> &[usize] {
        self.0.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.0.to_le_bytes())
    }

    fn data_len(&self) -> usize {
        self.0.len() * self.0.dtype().size()
    }
}

/// A safetensors file of `tensors`: sorted by element size and name, without metadata or times.
///
/// # Errors
/// For a header of more than 100 MB.
pub fn to_safetensors(tensors: &Tensors) -> Result<Vec<u8>, String> {
    let views = tensors
        .iter()
        .map(|(name, array)| (name.as_str(), Borrowed(array)));
    safetensors::serialize(views, None).map_err(|e| e.to_string())
}

/// The tensors of a safetensors file that nobody vouches for.
///
/// # Errors
/// Says which part does not fit: header, name, shape or size.
pub fn from_safetensors(bytes: &[u8]) -> Result<Tensors, String> {
    check_header(bytes)?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::U8 => DType::U8,
            Dtype::BOOL => DType::Bool,
            other => {
                return Err(format!(
                    "tensor {name:?} has elements of type {other}, which zoo does not use"
                ));
            }
        };
        let array = Array::from_le_bytes(dtype, view.shape(), view.data())
            .map_err(|e| format!("tensor {name:?}: {e}"))?;
        tensors.insert(name.to_owned(), array);
    }
    Ok(tensors)
}

/// Offsets must lie in the file: the safetensors crate adds them up unchecked.
fn check_header(bytes: &[u8]) -> Result<(), String> {
    let (len, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or("the file ends within its first 8 bytes")?;
    let header = usize::try_from(u64::from_le_bytes(*len))
        .ok()
        .and_then(|len| rest.get(..len))
        .ok_or("the file ends within its header")?;
    let entries: BTreeMap<String, Json> =
        serde_json::from_slice(header).map_err(|e| format!("the header is damaged: {e}"))?;
    let room = (rest.len() - header.len()) as u64;
    for (name, entry) in entries.iter().filter(|(name, _)| *name != "__metadata__") {
        let offsets = entry.get("data_offsets").and_then(Json::as_array);
        let inside = offsets.is_some_and(|list| {
            list.len() == 2 && list.iter().all(|o| o.as_u64().is_some_and(|o| o <= room))
        });
        if !inside {
            return Err(format!(
                "tensor {name:?} lies outside the file, which is too short or damaged"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensors {
        [
            ("b.weight", Array::f32([2, 2], [1.0, -2.0, f32::NAN, 4.0])),
            ("a.count", Array::i64([], [7])),
            ("a.half", Array::f16_bits([3], [1, 2, 3])),
            ("c.empty", Array::f32([0, 4], [])),
            ("d.mask", Array::bool([3], [1, 0, 1])),
        ]
        .map(|(name, array)| (name.to_owned(), array.unwrap()))
        .into()
    }

    #[test]
    fn round_trip_is_exact_and_bytes_are_stable() {
        let bytes = to_safetensors(&sample()).unwrap();
        let back = from_safetensors(&bytes).unwrap();
        // NaN differs from itself, its bytes do not.
        assert_eq!(to_safetensors(&back).unwrap(), bytes);
        assert_eq!(
            back.keys().collect::<Vec<_>>(),
            sample().keys().collect::<Vec<_>>()
        );
        assert_eq!(back["a.count"], sample()["a.count"]);
        assert_eq!(back["c.empty"].shape(), [0, 4]);
        assert_eq!(
            from_safetensors(&to_safetensors(&Tensors::new()).unwrap())
                .unwrap()
                .len(),
            0
        );
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = to_safetensors(&sample()).unwrap();
        for len in 0..bytes.len() {
            assert!(from_safetensors(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn lying_headers_are_errors() {
        let file = |header: &str, data: usize| {
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend(header.as_bytes());
            bytes.resize(bytes.len() + data, 0);
            bytes
        };
        for (header, data) in [
            (
                r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
                4,
            ),
            (
                r#"{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}"#,
                4,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
                4,
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}}"#,
                4,
            ),
            (r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0]}}"#, 4),
            (
                r#"{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}"#,
                4,
            ),
            (r#"{"a":3}"#, 4),
            ("[]", 0),
            ("{", 0),
        ] {
            assert!(from_safetensors(&file(header, data)).is_err(), "{header}");
        }
        assert!(from_safetensors(&u64::MAX.to_le_bytes()).is_err());
        let good = file(
            r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#,
            4,
        );
        assert_eq!(from_safetensors(&good).unwrap()["a"].shape(), [4]);
    }
}
