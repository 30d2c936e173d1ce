//! Archives of arrays: every layout and type, and importing.

use std::fs;
use std::io::Write;

use zoo_sdk::Binarization;

use super::formats::{bytes, fashion, floats, read};
use super::*;

/// An archive of arrays: name, type, shape, bytes.
pub(super) fn npz(
    arrays: &[(&str, &str, &[usize], Vec<u8>)],
    method: zip::CompressionMethod,
) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, descr, shape, bytes) in arrays {
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(&npy::header(descr, shape)).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

pub(super) const STORED: zip::CompressionMethod = zip::CompressionMethod::Stored;
pub(super) const DEFLATED: zip::CompressionMethod = zip::CompressionMethod::Deflated;

fn written(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn archives_in_every_layout() {
    // Ten images [2,2] with value = 100 n + 20 h + 10 w... kept small enough for bytes.
    let value = |n: usize, c: usize, h: usize, w: usize| (n * 12 + c * 4 + h * 2 + w + 2) as u8;
    let list = |dims: [usize; 4], order: [usize; 4]| -> Vec<u8> {
        // Values of [N,C,H,W] with the axes stored in `order`, the last fastest.
        let size = order.map(|a| dims[a]);
        let mut out = vec![];
        for i in 0..size.iter().product() {
            let mut rest: usize = i;
            let mut at = [0; 4];
            for k in (0..4).rev() {
                at[order[k]] = rest % size[k];
                rest /= size[k];
            }
            out.push(value(at[0], at[1], at[2], at[3]));
        }
        out
    };
    let grey = [10, 1, 2, 2];
    let rgb = [10, 3, 2, 2];
    let cases = [
        ("N,H,W", vec![10, 2, 2], list(grey, [0, 1, 2, 3]), grey),
        ("N,D", vec![10, 4], list(grey, [0, 1, 2, 3]), grey),
        ("N,C,H,W", vec![10, 3, 2, 2], list(rgb, [0, 1, 2, 3]), rgb),
        ("N,H,W,C", vec![10, 2, 2, 3], list(rgb, [0, 2, 3, 1]), rgb),
        ("N,1,H,W", vec![10, 1, 2, 2], list(grey, [0, 1, 2, 3]), grey),
    ];
    for (name, shape, values, dims) in cases {
        for (method, kind) in [
            (STORED, "u8"),
            (DEFLATED, "u8"),
            (DEFLATED, "f32"),
            (STORED, "f64"),
        ] {
            let (descr, stored): (&str, Vec<u8>) = match kind {
                "u8" => ("|u1", values.clone()),
                "f32" => (
                    "<f4",
                    values
                        .iter()
                        .flat_map(|&v| (f32::from(v) / 255.0).to_le_bytes())
                        .collect(),
                ),
                _ => (
                    ">f8",
                    values
                        .iter()
                        .flat_map(|&v| f64::from(v).to_be_bytes())
                        .collect(),
                ),
            };
            let test: Vec<usize> = [&[10], &shape[1..]].concat();
            let (_folder, path) = written(&npz(
                &[
                    ("x_train", descr, &shape, stored.clone()),
                    ("x_test", descr, &test, stored),
                ],
                method,
            ));
            let data = read(&path);
            assert_eq!(data.spec.image, dims[1..], "{name} {kind}");
            let expected = list(dims, [0, 1, 2, 3]);
            let found: Vec<u8> = match kind {
                "u8" => bytes(&data.train).to_vec(),
                _ => floats(&data.train)
                    .iter()
                    .map(|v| (v * 255.0).round() as u8)
                    .collect(),
            };
            assert_eq!(found, expected, "{name} {kind}");
            assert_eq!(
                data.notes.len(),
                usize::from(kind == "f64"),
                "0..255 is noted"
            );
        }
    }
}

#[test]
fn archives_in_column_order() {
    // As the published binarised MNIST is stored: pixels of one place together.
    let columns: Vec<u8> = (0..4)
        .flat_map(|p| (0..10).map(move |n| u8::from((n + p) % 3 == 0)))
        .collect();
    let text = "{'descr': '|u1', 'fortran_order': True, 'shape': (10, 4), }";
    let mut array = b"\x93NUMPY\x01\x00".to_vec();
    array.extend((text.len() as u16).to_le_bytes());
    array.extend(text.as_bytes());
    array.extend(columns);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["train", "valid", "test"] {
        zip.start_file(
            format!("{name}.npy"),
            zip::write::SimpleFileOptions::default(),
        )
        .unwrap();
        zip.write_all(&array).unwrap();
    }
    let (_folder, path) = written(&zip.finish().unwrap().into_inner());
    let settings = DataSettings {
        binarization: Binarization::Static,
        valid: 3,
        ..DataSettings::default()
    };
    let data = load(&Source::Path(path), &settings).unwrap();
    let expected: Vec<u8> = (0..10)
        .flat_map(|n| (0..4).map(move |p| 255 * u8::from((n + p) % 3 == 0)))
        .collect();
    assert_eq!(bytes(&data.train), expected);
    assert_eq!(data.valid.as_ref().unwrap().count, 10);
    assert_eq!(
        data.notes,
        [
            "all bytes are 0 or 1: read as black and white",
            "data.valid=3 has no effect: the source has 10 validation images of its own",
        ]
    );
}

#[test]
fn archives_with_labels_of_every_integer_type() {
    let images = vec![9; 3 * 4];
    let cases: [(&str, Vec<u8>, Vec<usize>); 5] = [
        ("|u1", vec![0, 2, 1], vec![3]),
        (
            "<i8",
            [0i64, 2, 1].iter().flat_map(|l| l.to_le_bytes()).collect(),
            vec![3],
        ),
        (
            ">i4",
            [0i32, 2, 1].iter().flat_map(|l| l.to_be_bytes()).collect(),
            vec![3, 1],
        ),
        ("|i1", vec![0, 2, 1], vec![3]),
        ("<u2", vec![0, 0, 2, 0, 1, 0], vec![3]),
    ];
    for (descr, labels, shape) in cases {
        let array = |name, labels: &Vec<u8>| (name, descr, shape.clone(), labels.clone());
        let (a, b) = (array("y_train", &labels), array("y_test", &labels));
        let (_folder, path) = written(&npz(
            &[
                ("x_train", "|u1", &[3, 2, 2], images.clone()),
                ("x_test", "|u1", &[3, 2, 2], images.clone()),
                (a.0, a.1, &a.2, a.3),
                (b.0, b.1, &b.2, b.3),
                ("extra", "|u1", &[1], vec![1]),
            ],
            DEFLATED,
        ));
        let data = read(&path);
        assert_eq!(
            data.train.labels.as_deref(),
            Some(&[0, 2, 1][..]),
            "{descr}"
        );
        assert_eq!(data.notes, ["array \"extra\" was left out"]);
    }
}

#[test]
fn an_import_is_the_same_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("fashion.npz");
    let (source, settings) = (
        Source::parse("fashion-small").unwrap(),
        DataSettings::default(),
    );
    let written = import(&source, &settings, &out).unwrap();
    let back = read(&out);
    assert_eq!(back.spec.sha256, fashion().spec.sha256);
    assert_eq!(back.spec.sha256, written.sha256);
    assert_eq!(back.spec.classes, fashion().spec.classes);
    let again = folder.path().join("again.npz");
    import(&source, &settings, &again).unwrap();
    assert!(
        fs::read(&out).unwrap() == fs::read(&again).unwrap(),
        "the same bytes"
    );

    let error = import(&source, &settings, &out).unwrap_err().to_string();
    assert!(
        error.ends_with("it exists already; choose another name or remove it first"),
        "{error}"
    );
    let error = import(&source, &settings, &folder.path().join("a.zip"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("does not end in .npz"), "{error}");
    assert!(import(&source, &settings, &folder.path().join("no/a.npz")).is_err());
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        2,
        "no temporary file is left"
    );

    // Floats and held-out images survive too.
    let values: Vec<u8> = (0..40)
        .flat_map(|i| (i as f32 / 40.0).to_le_bytes())
        .collect();
    fs::write(
        folder.path().join("f.npz"),
        npz(&[("images", "<f4", &[10, 2, 2], values)], STORED),
    )
    .unwrap();
    let source = Source::Path(folder.path().join("f.npz"));
    let out = folder.path().join("g.npz");
    let settings = DataSettings {
        valid: 2,
        ..settings
    };
    import(&source, &settings, &out).unwrap();
    let (given, back) = (load(&source, &settings).unwrap(), read(&out));
    assert_eq!(
        (given.train, given.valid, given.test),
        (back.train, back.valid, back.test)
    );
}
