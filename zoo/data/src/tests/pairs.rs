//! Images with targets: given, or made by degradation.

use std::fs;

use super::archives::{STORED, npz};
use super::formats::{bytes, picture, read};
use super::*;

/// Six inputs of 2x2 and targets of 4x4: every value of input i is i, every one of its target 10 i.
fn archive(targets: usize) -> Vec<u8> {
    let values = |count: usize, each: usize, of: fn(usize) -> u8| {
        (0..count)
            .flat_map(|i| vec![of(i); each])
            .collect::<Vec<u8>>()
    };
    npz(
        &[
            ("x_train", "|u1", &[6, 2, 2], values(6, 4, |i| i as u8)),
            (
                "target_train",
                "|u1",
                &[targets, 4, 4],
                values(targets, 16, |i| 10 * i as u8),
            ),
        ],
        STORED,
    )
}

fn of_archive(content: &[u8]) -> Result<OwnedDataset> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pairs.npz");
    fs::write(&path, content).unwrap();
    load(
        &Source::Path(path),
        &DataSettings {
            valid: 2,
            ..DataSettings::default()
        },
    )
}

#[test]
fn targets_of_an_archive_stay_with_their_images() {
    let data = of_archive(&archive(6)).unwrap();
    assert_eq!(data.spec.image, [1, 2, 2]);
    assert_eq!(data.spec.target, Some([1, 4, 4]));
    assert_eq!(data.spec.pair(), Some([[1, 2, 2], [1, 4, 4]]));
    for (name, split) in data.splits() {
        let Some(Images::U8(targets)) = &split.targets else {
            panic!("{name} has no targets");
        };
        assert_eq!(targets.len(), 16 * split.count, "{name}");
        for (image, target) in bytes(split).chunks(4).zip(targets.chunks(16)) {
            assert_eq!(target[0], 10 * image[0], "{name}");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (first, again) = (folder.path().join("a.npz"), folder.path().join("b.npz"));
    fs::write(&first, archive(6)).unwrap();
    import(
        &Source::Path(first.clone()),
        &DataSettings::default(),
        &again,
    )
    .unwrap();
    assert_eq!(
        read(&first).spec.sha256,
        read(&again).spec.sha256,
        "an import keeps them"
    );
    let error = of_archive(&archive(5)).unwrap_err().to_string();
    assert!(
        error.contains("train target: there are 5, but 6 images"),
        "{error}"
    );
}

#[test]
fn folders_of_inputs_and_targets_are_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path);
    for split in ["train", "test"] {
        for side in ["input", "target"] {
            fs::create_dir_all(at(split).join(side)).unwrap();
        }
        for (i, name) in ["a", "b"].into_iter().enumerate() {
            let grey = |v: usize| move |_, _| [v as u8; 3];
            picture(
                &at(split).join("input").join(format!("{name}.png")),
                2,
                2,
                grey(i),
            );
            picture(
                &at(split).join("target").join(format!("{name}.jpg")),
                6,
                6,
                grey(200 * i),
            );
        }
    }
    let data = read(folder.path());
    assert_eq!(
        (data.spec.image, data.spec.target),
        ([1, 2, 2], Some([1, 6, 6]))
    );
    assert_eq!((data.train.count, data.test.count), (2, 2));
    assert!(data.train.labels.is_none());
    fs::rename(at("test/target/b.jpg"), at("test/target/c.jpg")).unwrap();
    let error = load(
        &Source::Path(folder.path().to_owned()),
        &DataSettings::default(),
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("target: b: there is no picture of this name"),
        "{error}"
    );
}

#[test]
fn degradations_are_checked_against_the_images() {
    let with = |degrade: &str, settings: DataSettings| {
        let settings = DataSettings {
            degrade: degrade.parse().unwrap(),
            ..settings
        };
        load(&Source::parse("fashion-small").unwrap(), &settings)
    };
    let data = with("shrink 3", DataSettings::default()).unwrap();
    assert_eq!(data.spec.pair(), Some([[1, 9, 9], [1, 27, 27]]));
    let plain = with("", DataSettings::default()).unwrap();
    assert_eq!(
        data.spec.sha256, plain.spec.sha256,
        "the images are the same"
    );
    let wrong = |degrade| {
        with(degrade, DataSettings::default())
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        wrong("grey"),
        "data.degrade: grey: the images have 1 channels, not 3"
    );
    assert_eq!(
        wrong("crop 30"),
        "data.degrade: crop 30x30: the images are only 28x28"
    );
    let binary = DataSettings {
        binarization: zoo_sdk::Binarization::Dynamic,
        ..DataSettings::default()
    };
    assert!(
        with("shrink 2", binary)
            .unwrap_err()
            .to_string()
            .contains("data.binarization")
    );
}
