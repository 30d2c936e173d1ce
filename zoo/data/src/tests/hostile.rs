//! Damaged and lying files: every one an error that names the file and the field, and says what to do.

use std::fs;
use std::io::Cursor;
use std::path::Path;

use proptest::prelude::*;
use zoo_sdk::Binarization;

use super::archives::{DEFLATED, STORED, npz};
use super::formats::{gz, idx};
use super::*;

/// The message of what is wrong with a folder that `fill` makes, the folder's own path taken out.
fn folder(fill: impl Fn(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    message(folder.path(), folder.path(), &DataSettings::default())
}

fn message(path: &Path, root: &Path, settings: &DataSettings) -> String {
    let error = load(&Source::Path(path.to_owned()), settings).unwrap_err();
    let text = error.to_string();
    redact(&text.replace(&root.display().to_string(), "DIR"))
}

/// Without the words of libraries, which change with their versions.
fn redact(text: &str) -> String {
    let mut text = text.to_owned();
    for (before, after) in [("cannot be read: ", ";"), ("cannot be decoded (", ")")] {
        if let Some((head, rest)) = text.split_once(before) {
            let tail = rest.split_once(after).map_or("", |(_, tail)| tail);
            text = format!("{head}{before}...{after}{tail}");
        }
    }
    text
}

/// The same for one file in a folder.
fn file(name: &str, content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    message(&path, folder.path(), &DataSettings::default())
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

fn with_images(content: &[u8]) -> String {
    folder(|f| fs::write(f.join(IMAGES), content).unwrap())
}

#[test]
fn idx_files() {
    let good = idx(8, &[2, 2, 2], &[5; 8]);
    let labels = |content: Vec<u8>| {
        folder(|f| {
            fs::write(f.join(IMAGES), &good).unwrap();
            fs::write(f.join(LABELS), &content).unwrap();
        })
    };
    let cut = gz(&idx(8, &[200, 20, 20], &[5; 80000]));
    let all = [
        with_images(&[]),
        with_images(&good[..10]),
        with_images(&good[..20]),
        with_images(&[&good[..], b"more"].concat()),
        with_images(b"hello, world, this is no image"),
        with_images(&idx(13, &[2, 2, 2], &[5; 32])),
        with_images(&idx(8, &[8], &[5; 8])),
        with_images(&idx(8, &[0, 28, 28], &[])),
        with_images(&idx(8, &[1, 0, 28], &[])),
        with_images(&idx(8, &[1, 5000, 1], &[1; 5000])),
        with_images(&idx(8, &[u32::MAX, u32::MAX, u32::MAX], &[])),
        with_images(&idx(8, &[u32::MAX, 28, 28], &[])),
        with_images(&gz(&idx(8, &[2, 2, 2], &[5; 1_000_000]))),
        with_images(&cut[..cut.len() / 2]),
        with_images(&[&gz(&good)[..], b"trailing"].concat()),
        labels(idx(8, &[3], &[1, 2, 3])),
        labels(good.clone()),
        labels(vec![]),
        folder(|f| fs::write(f.join(LABELS), idx(8, &[3], &[1, 2, 3])).unwrap()),
        folder(|f| fs::write(f.join("t10k-images-idx3-ubyte"), &good).unwrap()),
        folder(|f| fs::create_dir(f.join(IMAGES)).unwrap()),
        folder(|f| {
            fs::write(f.join(IMAGES), &good).unwrap();
            fs::write(
                f.join("test-images-idx3-ubyte"),
                idx(8, &[2, 3, 3], &[5; 18]),
            )
            .unwrap();
        }),
        folder(|f| {
            fs::write(f.join(IMAGES), &good).unwrap();
            fs::write(f.join(LABELS), idx(8, &[2], &[0, 7])).unwrap();
            fs::write(f.join("classes.txt"), "a\nb").unwrap();
        }),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    DIR/train-images-idx3-ubyte: header: the file ends within its header; it is cut short: fetch or write it again
    DIR/train-images-idx3-ubyte: header: the file ends within its header; it is cut short: fetch or write it again
    DIR/train-images-idx3-ubyte: images: the header promises 8 bytes, only 4 are there; the file is cut short or damaged: fetch or write it again
    DIR/train-images-idx3-ubyte: images: there are more bytes than the 8 that the header promises; the file is cut short or damaged: fetch or write it again
    DIR/train-images-idx3-ubyte: header: it does not start like an IDX file; fetch or write the file again
    DIR/train-images-idx3-ubyte: header: its elements are of type 0x0d, only bytes (0x08) are read; store other types as .npz
    DIR/train-images-idx3-ubyte: header: it has 1 dimensions, images have 3; images and labels may have been swapped
    DIR/train-images-idx3-ubyte: header: it promises 0 images of 28x28; there must be one at least, with sides from 1 to 4096: fetch or write the file again
    DIR/train-images-idx3-ubyte: header: it promises 1 images of 0x28; there must be one at least, with sides from 1 to 4096: fetch or write the file again
    DIR/train-images-idx3-ubyte: header: it promises 1 images of 5000x1; there must be one at least, with sides from 1 to 4096: fetch or write the file again
    DIR/train-images-idx3-ubyte: images: the product of the sizes [4294967295, 4294967295, 4294967295] is larger than any memory; the header is damaged: fetch or write the file again
    DIR/train-images-idx3-ubyte: images: takes 3367255 MB in memory, but data.max_mb allows 4096; if the file is sound, use --set data.max_mb=3367255
    DIR/train-images-idx3-ubyte: images: there are more bytes than the 8 that the header promises; the file is cut short or damaged: fetch or write it again
    DIR/train-images-idx3-ubyte: images: cannot be read: ...; if the disk is sound, the file is damaged: fetch or write it again
    DIR/train-images-idx3-ubyte: images: cannot be read: ...; if the disk is sound, the file is damaged: fetch or write it again
    DIR/train-labels-idx1-ubyte: labels: there are 3, but 2 images; use images and labels of the same split
    DIR/train-labels-idx1-ubyte: header: it has 3 dimensions, labels have 1; images and labels may have been swapped
    DIR/train-labels-idx1-ubyte: header: the file ends within its header; it is cut short: fetch or write it again
    DIR/train-labels-idx1-ubyte: labels: there are no images to go with them; put train-images-idx3-ubyte beside it
    DIR: train-images-idx3-ubyte: there are IDX files in this folder, but not this one; name the training images so (.gz at the end is fine)
    DIR/train-images-idx3-ubyte: file: it is no regular file; give a file on disk
    DIR/test-images-idx3-ubyte: test images: they are [1, 3, 3], those of train [1, 2, 2] (channels, height, width); bring all splits to one shape
    DIR/train-images-idx3-ubyte: labels: label 7 occurs, but only 2 classes are named; name as many classes as there are, or none
    "#);
}

#[test]
fn archives() {
    let one = |name: &str, descr: &str, shape: &[usize], bytes: Vec<u8>| {
        file("a.npz", &npz(&[(name, descr, shape, bytes)], DEFLATED))
    };
    let raw = |content: &[u8]| {
        let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("images.npy", zip::write::SimpleFileOptions::default())
            .unwrap();
        std::io::Write::write_all(&mut zip, content).unwrap();
        file("a.npz", &zip.finish().unwrap().into_inner())
    };
    let header = |text: &str| {
        let length = (text.len() as u16).to_le_bytes();
        raw(&[b"\x93NUMPY\x01\x00", &length[..], text.as_bytes()].concat())
    };
    let good = npz(&[("images", "|u1", &[2, 2, 2], vec![5; 8])], STORED);
    let data = good.windows(8).position(|w| w == [5; 8]).unwrap();
    let mut flipped = good.clone();
    flipped[data] = 6;
    let floats = |values: &[f32]| {
        values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let all = [
        file("a.npz", b""),
        file("a.npz", b"PK\x03\x04 nothing"),
        file("a.npz", &good[..good.len() - 30]),
        file("a.npz", &flipped),
        file("a.npy", b"\x93NUMPY\x01\x00"),
        file("a.png", b"\x89PNG"),
        file("train-images-idx3-ubyte", &idx(8, &[1, 1, 1], &[0])),
        raw(b""),
        raw(b"no array at all"),
        raw(b"\x93NUMPY\x07\x00\x00\x00"),
        raw(b"\x93NUMPY\x02\x00\xff\xff\xff\xff"),
        raw(b"\x93NUMPY\x01\x00\xff\x00{"),
        header("{'descr': '|u1', 'shape': (2, 2, 2)}"),
        header("{'descr': '|u1', 'fortran_order': Maybe, 'shape': (2, 2, 2)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (2, -2, 2)}"),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}"),
        header("{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (9999999999, 9999999999, 9)}"),
        header(
            "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4611686018427387904, 4611686018427387904)}",
        ),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (60000, 1000, 1000)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (60, 28, 28)}"),
        one("pictures", "|u1", &[2, 2, 2], vec![5; 8]),
        one("y_test", "|u1", &[2], vec![5; 2]),
        one("images", "|u1", &[2, 5], vec![5; 10]),
        one("images", "|u1", &[2, 2, 2, 4], vec![5; 32]),
        one("images", "|u1", &[8], vec![5; 8]),
        one("images", "<i8", &[2, 1, 1], vec![5; 16]),
        one("images", "<f4", &[2, 1, 1], floats(&[0.5, -1.0])),
        one("images", "<f4", &[2, 1, 1], floats(&[f32::NAN, 0.0])),
        one("images", "<f4", &[2, 1, 1], floats(&[1.5, 0.0])),
        one("images", "<f4", &[2, 1, 1], floats(&[1e6, 0.0])),
        one("images", "|u1", &[1, 2, 2], vec![5; 4]),
        file(
            "a.npz",
            &npz(
                &[
                    ("images", "|u1", &[2, 1, 1], vec![5; 2]),
                    ("labels", "|u1", &[3], vec![0; 3]),
                ],
                STORED,
            ),
        ),
        file(
            "a.npz",
            &npz(
                &[
                    ("images", "|u1", &[2, 1, 1], vec![5; 2]),
                    ("labels", "<f4", &[2], vec![0; 8]),
                ],
                STORED,
            ),
        ),
        file(
            "a.npz",
            &npz(
                &[
                    ("images", "|u1", &[2, 1, 1], vec![5; 2]),
                    ("labels", "|i1", &[2], vec![0, 255]),
                ],
                STORED,
            ),
        ),
        file(
            "a.npz",
            &npz(
                &[
                    ("images", "|u1", &[2, 1, 1], vec![5; 2]),
                    ("train", "|u1", &[2, 1, 1], vec![5; 2]),
                ],
                STORED,
            ),
        ),
        file(
            "a.npz",
            &npz(
                &[
                    ("images", "|u1", &[2, 1, 1], vec![5; 2]),
                    ("test", "|u1", &[1, 2, 2], vec![5; 4]),
                ],
                STORED,
            ),
        ),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    DIR/a.npz: format: this is no .npz archive; give an .npz archive or a folder (IDX files, CIFAR-10 binary batches, PNG or JPEG images)
    DIR/a.npz: archive: cannot be read: ...; fetch it again, or write it again with numpy.savez or numpy.savez_compressed
    DIR/a.npz: archive: cannot be read: ...; fetch it again, or write it again with numpy.savez or numpy.savez_compressed
    DIR/a.npz: images: cannot be read: ...; if the disk is sound, the file is damaged: fetch or write it again
    DIR/a.npy: format: this is no .npz archive; put the array into an archive: numpy.savez("data.npz", images=..., labels=...)
    DIR/a.png: format: this is no .npz archive; give the folder that the pictures are in
    DIR/train-images-idx3-ubyte: format: this is no .npz archive; give the folder that the IDX files are in
    DIR/a.npz: images: the file ends within its header; it is cut short: fetch or write it again
    DIR/a.npz: images: it does not start like a NumPy array; write the array again with numpy.savez
    DIR/a.npz: images: version 7 of the format is unknown; write the array again with numpy.savez
    DIR/a.npz: images: the header claims to be 4294967295 bytes long; write the array again with numpy.savez
    DIR/a.npz: images: it ends within its header; write the array again with numpy.savez
    DIR/a.npz: images: header: fortran_order is missing; write the array again with numpy.savez
    DIR/a.npz: images: header: fortran_order is neither True nor False; write the array again with numpy.savez
    DIR/a.npz: images: header: shape (2, -2, 2) holds no sizes; write the array again with numpy.savez
    DIR/a.npz: images: header: arrays of records are not read; write the array again with numpy.savez
    DIR/a.npz: images: it holds Python objects (a pickle), which could run code when read; convert it with .astype(), to uint8 or float32 for images and int64 for labels
    DIR/a.npz: images: elements of type "<c8" are not read; convert it with .astype(), to uint8 or float32 for images and int64 for labels
    DIR/a.npz: images: the product of the sizes [9999999999, 9999999999, 9, 1] is larger than any memory; the header is damaged: fetch or write the file again
    DIR/a.npz: images: images have the shape [0, 4611686018427387904, 4611686018427387904], which holds none; give one image at least
    DIR/a.npz: images: takes 60000 MB in memory, but data.max_mb allows 4096; if the file is sound, use --set data.max_mb=60000
    DIR/a.npz: images: its header promises 47113 bytes in all, the archive 73; write the array again with numpy.savez
    DIR/a.npz: x_train: there are no training images; the arrays are [pictures]; name them x_train, train or images (labels y_train or labels; targets target_train; test images x_test or test)
    DIR/a.npz: y_test: there are no images to go with these labels; add them as x_test
    DIR/a.npz: images: rows of 5 values are no square images; reshape them to [N, C, H, W]
    DIR/a.npz: images: images have the shape [2, 2, 2, 4]; it must be [N, H, W], [N, C, H, W], [N, H, W, C] or [N, side * side], with 1 or 3 channels
    DIR/a.npz: images: images have the shape [8]; it must be [N, H, W], [N, C, H, W], [N, H, W, C] or [N, side * side], with 1 or 3 channels
    DIR/a.npz: images: images are neither bytes nor floats; convert them with .astype("uint8")
    DIR/a.npz: train images: image 1 holds the value -1; values must be in [0, 1] or in 0..255; bring values of [-1, 1] there with (x + 1) / 2
    DIR/a.npz: train images: image 0 holds the value NaN; values must be in [0, 1] or in 0..255; bring values of [-1, 1] there with (x + 1) / 2
    DIR/a.npz: images: the largest value is 1.5, so the range is neither [0, 1] nor 0..255; clip the values to [0, 1]
    DIR/a.npz: train images: image 0 holds the value 1000000; values must be in [0, 1] or in 0..255; bring values of [-1, 1] there with (x + 1) / 2
    DIR/a.npz: images: there is one image and no test split; give two images at least
    DIR/a.npz: train labels: there are 3, but 2 images; give one label an image, or none at all
    DIR/a.npz: labels: labels must be integers [N], these have the shape [2]; turn one-hot labels into indices with .argmax(1), floats with .astype("int64")
    DIR/a.npz: train labels: label 1 is -1; labels are class indices from 0 to 65535
    DIR/a.npz: images: it means the same as train, which is there too; keep one of them
    DIR/a.npz: test images: they are [1, 2, 2], those of train [1, 1, 1] (channels, height, width); bring all splits to one shape
    "#);
}

#[test]
fn pictures_and_batches() {
    let png = |width, height| {
        let mut out = Cursor::new(Vec::new());
        image::GrayImage::new(width, height)
            .write_to(&mut out, image::ImageFormat::Png)
            .unwrap();
        out.into_inner()
    };
    // The header's width and height, with the checksum that makes them credible.
    let huge = {
        let mut bytes = png(4, 4);
        bytes[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        bytes
    };
    let put = |names: &[(&str, &[u8])]| {
        folder(|f| {
            for (name, content) in names {
                let path = f.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, content).unwrap();
            }
        })
    };
    let good = png(4, 4);
    let all = [
        put(&[]),
        put(&[("readme.txt", b"nothing here")]),
        put(&[("a/x.png", &good), ("b/readme.txt", b"")]),
        put(&[("a.png", &good), ("b/c.png", &good)]),
        put(&[("a/b/c.png", &good)]),
        put(&[("test/a.png", &good)]),
        put(&[("train/a.png", &good), ("test/readme.txt", b"")]),
        put(&[("a.png", &good), ("b.png", &png(4, 5))]),
        put(&[("a.png", &good[..good.len() / 2])]),
        put(&[("a.png", b"")]),
        put(&[("a.jpg", b"GIF89a is no JPEG")]),
        put(&[("a.png", &huge)]),
        put(&[("a.png", &png(5000, 1))]),
        put(&[("data_batch_1.bin", &[0; 100])]),
        put(&[("data_batch_1.bin", b"")]),
        put(&[("data_batch_1.bin", &[77; 3073])]),
        put(&[
            ("data_batch_1.bin", &[1; 3073]),
            ("data_batch_3.bin", &[1; 3073]),
        ]),
        put(&[("test_batch.bin", &[1; 3073])]),
        put(&[("data_batch_1", b"pickle")]),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    DIR: images: there are none; give a folder of IDX files, CIFAR-10 binary batches, or PNG or JPEG images (one sub-folder a class), or an .npz file
    DIR: images: there are none; give a folder of IDX files, CIFAR-10 binary batches, or PNG or JPEG images (one sub-folder a class), or an .npz file
    DIR/b: images: this class has no PNG or JPEG; add some or remove the folder
    DIR: classes: there are pictures beside the sub-folder DIR/b; put every picture into the sub-folder of its class, or none
    DIR/a/b: classes: it is a folder within a class; keep the pictures of a class in one folder
    DIR: train: there is a folder for another split, but none of this name; put the training images into it
    DIR/test: images: there are none; give a folder of IDX files, CIFAR-10 binary batches, or PNG or JPEG images (one sub-folder a class), or an .npz file
    DIR/b.png: size: it is 5x4, but DIR/a.png is 4x4; bring all to one size with --set data.size=4x4
    DIR/a.png: picture: it cannot be decoded (...); give a sound PNG or JPEG, or take the file away
    DIR/a.png: picture: it is neither PNG nor JPEG; give a sound PNG or JPEG, or take the file away
    DIR/a.jpg: picture: it is neither PNG nor JPEG; give a sound PNG or JPEG, or take the file away
    DIR/a.png: picture: its header promises sides or memory beyond 4096x4096; give a sound PNG or JPEG, or take the file away
    DIR/a.png: picture: its header promises sides or memory beyond 4096x4096; give a sound PNG or JPEG, or take the file away
    DIR/data_batch_1.bin: size: 100 bytes are no whole number of records of 3073; it is cut short or no CIFAR-10 batch: unpack the archive again
    DIR/data_batch_1.bin: size: 0 bytes are no whole number of records of 3073; it is cut short or no CIFAR-10 batch: unpack the archive again
    DIR/data_batch_1.bin: record 0: its label is 77, the classes are 0 to 9; it is damaged or no CIFAR-10 batch: unpack the archive again
    DIR/data_batch_2.bin: file: it is not there, but DIR/data_batch_3.bin is there; unpack the archive again
    DIR/data_batch_1.bin: file: it is not there, but the other batches are there; unpack the archive again
    DIR/data_batch_1: format: this is CIFAR-10 for Python, a pickle, which could run code when read; fetch the binary version, cifar-10-binary.tar.gz
    "#);
}

#[test]
fn settings_that_do_not_fit_and_sources_that_do_not_exist() {
    let source = Source::parse("fashion-small").unwrap();
    let with = |settings: DataSettings| load(&source, &settings).unwrap_err().to_string();
    let base = DataSettings::default;
    let all = [
        with(DataSettings {
            valid: 5000,
            ..base()
        }),
        with(DataSettings {
            limit: Some(0),
            ..base()
        }),
        with(DataSettings {
            binarization: Binarization::Static,
            ..base()
        }),
        with(DataSettings {
            max_mb: 1,
            ..base()
        }),
        Source::parse("fashion_smal").unwrap_err().to_string(),
        Source::parse("/no/such/folder").unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(all.join("\n"), @r#"
    data.valid: 5000 images cannot be held out of 5000; give at most 4999
    data.limit: 0 images leave nothing to train on; give 1 at least, or leave it out
    data.binarization: `static` says that the data are binary, but image 0 of train holds the grey value 0.004; use `threshold` or `dynamic`
    train-images-idx3-ubyte.gz: images: takes 4 MB in memory, but data.max_mb allows 1; if the file is sound, use --set data.max_mb=4
    "fashion_smal" is neither a data set nor an existing path; did you mean fashion-small?
    "/no/such/folder" is neither a data set nor an existing path; give fashion-small, emoji, emoji-64, a folder (IDX files, CIFAR-10 binary batches, PNG or JPEG images) or an .npz file
    "#);
}

#[test]
#[cfg(unix)]
fn what_is_no_file() {
    let error = |path: &str| {
        load(&Source::Path(path.into()), &DataSettings::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error("/dev/zero"),
        "/dev/zero: file: it is no regular file; give a file on disk"
    );
    assert!(error("/no/such/folder").starts_with("/no/such/folder: "));
}

#[test]
fn memory_follows_what_arrives_not_what_is_promised() {
    // 60,000 images of 200x200 are promised; a budget that allows them must not lead to 2.4 GB being taken.
    let mut header = idx(8, &[60_000, 200, 200], &[]);
    header.extend([0; 100]);
    let mut budget = file::Budget::new(4096);
    let error = idx::parse_images(&mut header.as_slice(), "a", &mut budget).unwrap_err();
    assert!(error.to_string().contains("only 100 are there"), "{error}");
}

/// Bytes near a valid file: random ones, or a valid file with bytes replaced, cut or added.
fn near(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let n = valid.len();
    let edits = proptest::collection::vec((0..n, any::<u8>()), 0..6);
    let edited = (
        edits,
        0..=n,
        any::<bool>(),
        proptest::collection::vec(any::<u8>(), 0..20),
    );
    prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        6 => edited.prop_map(move |(edits, cut, whole, tail)| {
            let mut bytes = valid.clone();
            edits.iter().for_each(|&(at, b)| bytes[at] = b);
            bytes.truncate(if whole { n } else { cut });
            bytes.extend(tail);
            bytes
        }),
    ]
}

fn jpeg() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let image = image::RgbImage::from_fn(9, 7, |x, y| image::Rgb([x as u8 * 20, y as u8 * 30, 90]));
    image.write_to(&mut out, image::ImageFormat::Jpeg).unwrap();
    out.into_inner()
}

fn png() -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let image = image::RgbaImage::from_fn(9, 7, |x, y| image::Rgba([x as u8, y as u8, 90, 200]));
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_idx_file_panics(bytes in prop_oneof![near(idx(8, &[2, 2, 3], &[5; 12])), near(gz(&idx(8, &[2, 2, 3], &[5; 12])))]) {
        if let Ok((images, n, [h, w])) = idx::parse_images(&mut bytes.as_slice(), "a", &mut file::Budget::new(10)) {
            prop_assert_eq!(images.len(), n * h * w);
        }
        let _ = idx::parse_labels(&mut bytes.as_slice(), "a", 2, &mut file::Budget::new(10));
    }

    #[test]
    fn no_archive_panics(bytes in prop_oneof![
        near(npz(&[("x_train", "<f4", &[3, 2, 2], vec![0; 48]), ("y_train", "<i4", &[3], vec![0; 12]), ("classes", "<U2", &[1], vec![0; 8])], STORED)),
        near(npz(&[("images", "|u1", &[4, 2, 2, 3], vec![1; 48])], DEFLATED)),
    ]) {
        if let Ok(raw) = npz::parse(Cursor::new(bytes), "a", &mut file::Budget::new(10)) {
            // What a decoder lets through, the checks behind it take or refuse.
            let _ = assemble::assemble(&Source::Path("a".into()), raw, &DataSettings::default());
        }
    }

    #[test]
    fn no_array_header_panics(text in "(\\{'descr': '[|<>]?[a-zA-Zµ][0-9]{0,20}', 'fortran_order': (True|False), 'shape': \\([0-9, ]{0,40}\\),? ?\\})|.{0,60}") {
        let bytes = [b"\x93NUMPY\x02\x00", &(text.len() as u32).to_le_bytes()[..], text.as_bytes(), &[0; 64]].concat();
        let _ = npy::read(&mut bytes.as_slice(), bytes.len() as u64, "a", "b", &mut file::Budget::new(10));
    }

    #[test]
    fn no_picture_panics(bytes in prop_oneof![near(png()), near(jpeg())]) {
        if let Ok(picture) = folder::decode(Cursor::new(bytes), "a") {
            prop_assert_eq!(picture.bytes.len(), picture.channels * picture.size.height * picture.size.width);
        }
    }
}
