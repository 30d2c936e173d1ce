//! CIFAR-10's binary version: records of one label byte and 3x32x32 grey values.

use std::path::{Path, PathBuf};

use crate::assemble::{Raw, RawSplit};
use crate::file::{Budget, io_error, metadata, open, read_rest};
use crate::known::CIFAR10;
use crate::{Images, Result, content};

const PIXELS: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PIXELS;

/// The folder with the batches: this one, or the one that the archive unpacks to inside it.
pub(crate) fn find(folder: &Path) -> Result<Option<PathBuf>> {
    let inner = folder.join("cifar-10-batches-bin");
    for place in [folder, &inner] {
        if place.join("data_batch_1.bin").exists() || place.join("test_batch.bin").exists() {
            return Ok(Some(place.to_owned()));
        }
    }
    let pickled = folder.join("data_batch_1");
    if pickled.exists() {
        return Err(content(
            pickled.display(),
            "format",
            "this is CIFAR-10 for Python, a pickle, which could run code when read",
            "fetch the binary version, cifar-10-binary.tar.gz",
        ));
    }
    Ok(None)
}

/// Reads `data_batch_1.bin` and those that follow it, `test_batch.bin`, and `batches.meta.txt` where it is there.
pub(crate) fn load(folder: &Path, budget: &mut Budget) -> Result<Raw> {
    let batches: Vec<PathBuf> = (1..=5)
        .map(|i| folder.join(format!("data_batch_{i}.bin")))
        .collect();
    let there = batches.iter().take_while(|p| p.exists()).count();
    if let Some(later) = batches[there..].iter().find(|p| p.exists()) {
        return Err(missing(
            &batches[there],
            &format!("{} is there", later.display()),
        ));
    }
    if there == 0 {
        return Err(missing(&batches[0], "the other batches are there"));
    }
    let mut notes = vec![];
    if there < batches.len() {
        notes.push(format!("CIFAR-10: {there} of 5 training batches are there"));
    }
    let test = folder.join("test_batch.bin");
    let classes = folder.join("batches.meta.txt");
    let classes = if classes.exists() {
        let text = std::fs::read_to_string(&classes).map_err(|e| io_error(&classes, e))?;
        let names = text.lines().map(str::trim).filter(|l| !l.is_empty());
        names.map(str::to_owned).collect()
    } else {
        CIFAR10.map(str::to_owned).to_vec()
    };
    Ok(Raw {
        train: split(&batches[..there], budget)?,
        valid: None,
        test: if test.exists() {
            Some(split(&[test], budget)?)
        } else {
            None
        },
        classes,
        licence: None,
        notes,
    })
}

fn missing(path: &Path, but: &str) -> crate::Error {
    content(
        path.display(),
        "file",
        format!("it is not there, but {but}"),
        "unpack the archive again",
    )
}

fn split(files: &[PathBuf], budget: &mut Budget) -> Result<RawSplit> {
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for path in files {
        let file = path.display().to_string();
        let bytes = metadata(path)?.len();
        let count = usize::try_from(bytes).unwrap_or(usize::MAX) / RECORD;
        if count == 0 || !bytes.is_multiple_of(RECORD as u64) {
            return Err(content(
                file,
                "size",
                format!("{bytes} bytes are no whole number of records of {RECORD}"),
                "it is cut short or no CIFAR-10 batch: unpack the archive again",
            ));
        }
        budget.take(&file, "images", &[count, RECORD])?;
        let bytes = read_rest(&mut open(path)?, count * RECORD, &file, "records")?;
        for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
            if record[0] > 9 {
                return Err(content(
                    file,
                    format!("record {i}"),
                    format!("its label is {}, the classes are 0 to 9", record[0]),
                    "it is damaged or no CIFAR-10 batch: unpack the archive again",
                ));
            }
            labels.push(i64::from(record[0]));
            images.extend_from_slice(&record[1..]);
        }
    }
    Ok(RawSplit {
        targets: None,
        origin: files[0].display().to_string(),
        shape: [labels.len(), 3, 32, 32],
        images: Images::U8(images),
        labels: Some(labels),
    })
}
