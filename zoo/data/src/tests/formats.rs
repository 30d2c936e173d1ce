//! Every format, on small files written here.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

pub(super) fn idx(kind: u8, dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, kind, dims.len() as u8];
    dims.iter().for_each(|d| out.extend(d.to_be_bytes()));
    out.extend(values);
    out
}

pub(super) fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// `n` images of 2x3 with values 7i + pixel, and labels i % 3.
fn small(n: u8) -> (Vec<u8>, Vec<u8>) {
    let images = (0..n)
        .flat_map(|i| (0..6).map(move |p| i * 7 + p))
        .collect();
    (images, (0..n).map(|i| i % 3).collect())
}

pub(super) fn read(path: &Path) -> OwnedDataset {
    load(&Source::Path(path.to_owned()), &DataSettings::default()).unwrap()
}

pub(super) fn bytes(split: &OwnedSplit) -> &[u8] {
    match &split.images {
        Images::U8(v) => v,
        Images::F32(_) => panic!("floats"),
    }
}

pub(super) fn floats(split: &OwnedSplit) -> &[f32] {
    match &split.images {
        Images::F32(v) => v,
        Images::U8(_) => panic!("bytes"),
    }
}

pub(super) fn fashion() -> OwnedDataset {
    load(
        &Source::parse("fashion-small").unwrap(),
        &DataSettings::default(),
    )
    .unwrap()
}

#[test]
fn the_embedded_set_is_the_one_of_the_fixture() {
    let data = fashion();
    assert_eq!(
        data.spec.sha256,
        "5600446b892696dd21dedbf058be72267a009a6b49a5c592a35c5d1c1673039c"
    );
    assert_eq!(
        (data.spec.image, data.train.count, data.test.count),
        ([1, 28, 28], 5000, 1000)
    );
    assert_eq!(data.spec.classes[9], "ankle boot");
    assert!(data.spec.licence.as_deref().unwrap().contains("MIT"));
    let info = info(&data);
    assert_eq!(info.splits[0].per_class, [500; 10]);
    assert_eq!(info.splits[1].per_class, [100; 10]);
    assert_eq!(info.splits[0].range, [0.0, 1.0]);
    // The mean of the full training set is 0.2860, its standard deviation 0.3530.
    assert!(
        (info.splits[0].mean - 0.286).abs() < 0.005 && (info.splits[0].std - 0.353).abs() < 0.005
    );
    assert_eq!(data.view().train.len(), 5000);
    assert!(data.view().valid.is_none());

    // The folder, known by its labels alone, is the same set.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/fashion-mnist");
    let from_folder = read(&folder);
    assert_eq!(from_folder.spec.sha256, data.spec.sha256);
    assert_eq!(from_folder.spec.classes, data.spec.classes);
    assert_eq!(from_folder.spec.name, "fashion-mnist");
}

#[test]
fn idx_folders_under_all_their_names() {
    let (images, labels) = small(4);
    let (images, labels) = (idx(8, &[4, 2, 3], &images), idx(8, &[4], &labels));
    let mut seen = vec![];
    for (dot, end, test) in [
        ("-", "", "t10k"),
        (".", "", "test"),
        ("-", ".gz", "test"),
        (".", ".gz", "t10k"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: String, content: &[u8]| {
            let content = if end == ".gz" {
                gz(content)
            } else {
                content.to_vec()
            };
            fs::write(folder.path().join(name + end), content).unwrap();
        };
        for split in ["train", test] {
            put(format!("{split}-images{dot}idx3-ubyte"), &images);
            put(format!("{split}-labels{dot}idx1-ubyte"), &labels);
        }
        let data = read(folder.path());
        assert_eq!(
            (data.spec.image, data.train.count, data.test.count),
            ([1, 2, 3], 4, 4)
        );
        assert_eq!(bytes(&data.train), small(4).0);
        assert_eq!(data.train.labels.as_deref(), Some(&[0, 1, 2, 0][..]));
        assert_eq!(data.spec.classes, ["0", "1", "2"]);
        assert!(data.notes.is_empty());
        seen.push(data.spec.sha256);
    }
    seen.dedup();
    assert_eq!(seen.len(), 1, "the hash is one of the content");
}

#[test]
fn idx_classes_may_be_named_and_labels_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (images, labels) = small(20);
    fs::write(
        folder.path().join("train-images-idx3-ubyte"),
        idx(8, &[20, 2, 3], &images),
    )
    .unwrap();
    let data = read(folder.path());
    assert!(data.spec.classes.is_empty() && data.train.labels.is_none());
    assert_eq!((data.train.count, data.test.count), (18, 2));
    insta::assert_snapshot!(data.notes.join("\n"), @"the source has no test split: 2 of its 20 images were held out, the same each time");

    fs::write(
        folder.path().join("train-labels-idx1-ubyte"),
        idx(8, &[20], &labels),
    )
    .unwrap();
    fs::write(folder.path().join("classes.txt"), "red\ngreen\nblue\n").unwrap();
    let data = read(folder.path());
    assert_eq!(data.spec.classes, ["red", "green", "blue"]);
    // Images and labels stay together: image i has the label i % 3.
    for split in [&data.train, &data.test] {
        let firsts = bytes(split)
            .chunks(6)
            .map(|image| i64::from(image[0]) / 7 % 3);
        assert_eq!(firsts.collect::<Vec<_>>(), *split.labels.as_ref().unwrap());
    }
}

#[test]
fn cifar_batches() {
    let folder = tempfile::tempdir().unwrap();
    let batch = |label: u8| -> Vec<u8> {
        let record = |i: u8| {
            [
                vec![label],
                vec![i; 1024],
                vec![i + 1; 1024],
                vec![i + 2; 1024],
            ]
            .concat()
        };
        [record(10), record(20)].concat()
    };
    let inner = folder.path().join("cifar-10-batches-bin");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("data_batch_1.bin"), batch(3)).unwrap();
    fs::write(inner.join("data_batch_2.bin"), batch(9)).unwrap();
    fs::write(inner.join("test_batch.bin"), batch(0)).unwrap();
    let data = read(folder.path());
    assert_eq!(
        (data.spec.image, data.train.count, data.test.count),
        ([3, 32, 32], 4, 2)
    );
    assert_eq!(data.train.labels.as_deref(), Some(&[3, 3, 9, 9][..]));
    assert_eq!(data.spec.classes[3], "cat");
    assert_eq!(bytes(&data.train)[1023..1025], [10, 11]);
    assert_eq!(data.notes, ["CIFAR-10: 2 of 5 training batches are there"]);
    fs::write(
        inner.join("batches.meta.txt"),
        "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n",
    )
    .unwrap();
    assert_eq!(read(&inner).spec.classes[9], "j");
}

pub(super) fn picture(path: &Path, width: u32, height: u32, colour: impl Fn(u32, u32) -> [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb(colour(x, y)));
    image.save(path).unwrap();
}

#[test]
fn folders_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    picture(&at("train/dog/b.png"), 4, 4, |x, _| [x as u8 * 10; 3]);
    picture(&at("train/dog/a.PNG"), 4, 4, |_, _| [7; 3]);
    picture(&at("train/cat/c.png"), 4, 4, |_, _| [1; 3]);
    picture(&at("test/cat/d.png"), 4, 4, |_, _| [2; 3]);
    fs::write(at("train/cat/notes.txt"), "no picture").unwrap();
    fs::write(at("train/cat/.hidden.png"), "no picture").unwrap();
    let data = read(folder.path());
    assert_eq!(data.spec.classes, ["cat", "dog"]);
    // Every picture is grey, though stored in colour.
    assert_eq!(
        (data.spec.image, data.train.count, data.test.count),
        ([1, 4, 4], 3, 1)
    );
    assert_eq!(data.train.labels.as_deref(), Some(&[0, 1, 1][..]));
    assert_eq!(
        bytes(&data.train)[..33],
        [vec![1; 16], vec![7; 16], vec![0]].concat()
    );
    assert_eq!(
        data.notes,
        ["1 files that are neither PNG nor JPEG by their names were left out"]
    );

    // One in colour makes all of them so.
    picture(&at("train/cat/e.jpg"), 4, 4, |_, _| [250, 10, 10]);
    let data = read(folder.path());
    assert_eq!(data.spec.image, [3, 4, 4]);
    assert_eq!(bytes(&data.test), [2; 48]);
    let red = &bytes(&data.train)[48..96];
    assert!(
        red[..16].iter().all(|&r| r > 235) && red[16..].iter().all(|&gb| gb < 25),
        "{red:?}"
    );
}

#[test]
fn pictures_without_classes_of_any_size() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..10u8 {
        let (w, h) = (8 + u32::from(i), 8 + u32::from(i % 3));
        picture(&folder.path().join(format!("{i}.png")), w, h, |_, _| {
            [i * 20; 3]
        });
    }
    let settings = DataSettings {
        size: Some("6x4".parse().unwrap()),
        ..DataSettings::default()
    };
    let source = Source::Path(folder.path().to_owned());
    let data = load(&source, &settings).unwrap();
    assert_eq!(
        (data.spec.image, data.train.count, data.test.count),
        ([1, 6, 4], 9, 1)
    );
    assert!(data.train.labels.is_none());
    // A constant picture stays constant, whatever is cropped and scaled.
    assert!(
        bytes(&data.train)
            .chunks(24)
            .all(|p| p.iter().all(|v| *v == p[0] && v % 20 == 0))
    );
}

#[test]
fn transparent_parts_are_white() {
    let folder = tempfile::tempdir().unwrap();
    for (name, alpha) in [("a.png", 0), ("b.png", 255)] {
        image::RgbaImage::from_pixel(2, 2, image::Rgba([0, 0, 0, alpha]))
            .save(folder.path().join(name))
            .unwrap();
    }
    let data = read(folder.path());
    let mut values = [bytes(&data.train), bytes(&data.test)].concat();
    values.sort_unstable();
    assert_eq!(values, [0, 0, 0, 0, 255, 255, 255, 255]);
    assert!(
        data.notes
            .iter()
            .any(|n| n.starts_with("1 pictures have transparent parts"))
    );
}

#[test]
fn held_out_images_come_from_training_and_are_the_same_each_time() {
    let with = |valid, limit| {
        let settings = DataSettings {
            valid,
            limit,
            ..DataSettings::default()
        };
        load(&Source::parse("fashion-small").unwrap(), &settings).unwrap()
    };
    let (plain, held) = (fashion(), with(700, None));
    let valid = held.valid.as_ref().unwrap();
    assert_eq!((held.train.count, valid.count), (4300, 700));
    let sorted = |splits: &[&OwnedSplit]| {
        let mut images: Vec<Vec<u8>> = splits
            .iter()
            .flat_map(|s| bytes(s).chunks(784).map(<[u8]>::to_vec))
            .collect();
        images.sort();
        images
    };
    assert!(
        sorted(&[&held.train, valid]) == sorted(&[&plain.train]),
        "nothing is lost or doubled"
    );
    assert_eq!(held.spec.sha256, plain.spec.sha256);
    // A limit takes from training alone, and the smaller set is part of the larger one.
    let limited = with(700, Some(100));
    assert_eq!(limited.valid, held.valid);
    assert_eq!(limited.train.count, 100);
    let all = sorted(&[&held.train]);
    assert!(
        sorted(&[&limited.train])
            .iter()
            .all(|i| all.binary_search(i).is_ok())
    );
    // The choice ignores classes, and so hits them all.
    assert!(info(&limited).splits[0].per_class.iter().all(|&n| n > 0));
}

#[test]
fn settings_are_strict() {
    let parse = |text: &str| toml::from_str::<DataSettings>(text);
    assert_eq!(parse("").unwrap(), DataSettings::default());
    let full = "binarization = \"dynamic\"\nvalid = 500\nlimit = 7\nsize = \"28x32\"\nmax_mb = 1\n";
    let settings = parse(full).unwrap();
    assert_eq!(
        settings.size,
        Some(Size {
            height: 28,
            width: 32
        })
    );
    assert_eq!(toml::to_string(&settings).unwrap(), full);
    assert!(
        parse("vaild = 3")
            .unwrap_err()
            .to_string()
            .contains("unknown field `vaild`")
    );
    for size in ["28", "0x3", "3x-1", "99999x1", "ax2", ""] {
        let error = parse(&format!("size = {size:?}")).unwrap_err().to_string();
        assert!(error.contains("expected HEIGHTxWIDTH in pixels"), "{error}");
    }
    let schema = serde_json::to_value(schemars::schema_for!(DataSettings)).unwrap();
    assert_eq!(schema["properties"]["binarization"]["enum"][2], "dynamic");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn resizing_other_formats() {
    let settings = DataSettings {
        size: Some("14x14".parse().unwrap()),
        ..DataSettings::default()
    };
    let data = load(&Source::parse("fashion-small").unwrap(), &settings).unwrap();
    assert_eq!(data.spec.image, [1, 14, 14]);
    let (small, large) = (info(&data), info(&fashion()));
    assert!((small.splits[0].mean - large.splits[0].mean).abs() < 0.003);
    assert_ne!(small.sha256, large.sha256);
}

#[test]
fn previews_show_every_class() {
    let data = fashion();
    let images = preview(&data, "test", 8, 10).unwrap();
    assert_eq!(images.shape(), [80, 1, 28, 28]);
    let first_of = |class: i64| {
        data.test
            .labels
            .as_ref()
            .unwrap()
            .iter()
            .position(|&l| l == class)
            .unwrap()
    };
    assert_eq!(
        images.rows(72, 73),
        data.images("test", &[first_of(9)]).unwrap()
    );
    assert_eq!(
        preview(&data, "train", 3, 2).unwrap().shape(),
        [6, 1, 28, 28]
    );
    insta::assert_snapshot!(preview(&data, "valid", 3, 2).unwrap_err(), @r#"fashion-small has no split "valid"; it has train, test"#);
}
