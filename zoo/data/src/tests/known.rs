//! Data sets that come with the program, but not in its binary.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::formats::bytes;
use super::*;

fn emoji(name: &str) -> OwnedDataset {
    load(&Source::parse(name).unwrap(), &DataSettings::default()).unwrap()
}

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fixtures/emoji")
        .join(file)
}

#[test]
fn the_emoji_are_those_of_the_fixture() {
    for (name, side, sha256) in [
        (
            "emoji",
            32,
            "4f93b11f4ecd07fda0973e3cfd1d589c261397192abb7941903d58061f148c84",
        ),
        (
            "emoji-64",
            64,
            "3ab512bb7ed6478da7788a77da6c2b986743cbf2ea414fc881588c84df9e4bbb",
        ),
    ] {
        let data = emoji(name);
        assert_eq!(data.spec.sha256, sha256, "{name}");
        assert_eq!(
            (data.spec.name.as_str(), data.spec.image),
            (name, [3, side, side])
        );
        assert_eq!(
            data.spec.classes,
            [
                "Smileys & Emotion",
                "People & Body",
                "Animals & Nature",
                "Food & Drink",
                "Travel & Places",
                "Activities",
                "Objects",
                "Symbols",
                "Flags"
            ]
        );
        assert!(
            data.spec
                .licence
                .as_deref()
                .unwrap()
                .starts_with("Apache-2.0")
        );
        assert_eq!(data.notes, [""; 0]);
        let info = info(&data);
        let [train, test] = &info.splits[..] else {
            panic!("{info:?}")
        };
        assert_eq!((train.images, test.images, train.dtype), (1706, 200, "u8"));
        assert_eq!(
            train.per_class,
            [151, 346, 142, 117, 195, 76, 236, 201, 242]
        );
        assert_eq!(test.per_class, [18, 40, 17, 14, 23, 9, 28, 23, 28]);
        // Over black the mean would be 0.30.
        assert!(
            [train, test].iter().all(|s| (s.mean - 0.768).abs() < 0.005),
            "{info:?}"
        );
    }
}

#[test]
fn the_emoji_stand_on_white() {
    for (name, at_least) in [("emoji", 0.96), ("emoji-64", 1.0)] {
        let data = emoji(name);
        for (split, owned) in data.splits() {
            let (pixels, side) = (data.spec.pixels(), data.spec.image[2]);
            let white = bytes(owned).chunks_exact(pixels).filter(|image| {
                image.chunks_exact(side * side).all(|plane| {
                    let corners = [0, side - 1, side * (side - 1), side * side - 1];
                    corners.iter().all(|&i| plane[i] == 255)
                })
            });
            let share = white.count() as f64 / owned.count as f64;
            assert!(share >= at_least, "{name} {split}: {share}");
        }
    }
}

#[test]
fn the_small_emoji_are_the_large_ones_halved() {
    let (small, large) = (emoji("emoji"), emoji("emoji-64"));
    for ((split, small), (_, large)) in small.splits().into_iter().zip(large.splits()) {
        assert_eq!(small.labels, large.labels, "{split}");
        let (small, large) = (bytes(small), bytes(large));
        for (i, &value) in small.iter().enumerate() {
            let corner = i / 32 * 128 + i % 32 * 2;
            let sum: u16 = [0, 1, 64, 65]
                .iter()
                .map(|o| u16::from(large[corner + o]))
                .sum();
            assert_eq!(u16::from(value), (sum + 2) / 4, "{split} value {i}");
        }
    }
}

#[test]
fn no_emoji_is_in_both_splits() {
    let data = emoji("emoji");
    let images = |split| bytes(split).chunks_exact(data.spec.pixels());
    let train: BTreeSet<&[u8]> = images(&data.train).collect();
    assert_eq!(
        images(&data.test)
            .filter(|image| train.contains(image))
            .count(),
        0
    );
    let test: BTreeSet<&[u8]> = images(&data.test).collect();
    assert_eq!(test.len(), 200);
}

/// Colours in the order red, green, blue; rows from the top, columns from the left.
#[test]
fn the_emoji_are_what_their_index_says() {
    let data = emoji("emoji");
    let text = fs::read_to_string(fixture("index.tsv")).unwrap();
    let mut images = BTreeMap::new();
    let mut counts = BTreeMap::from([("train", 0), ("test", 0)]);
    for line in text.lines().skip(1) {
        let [split, index, label, points, _name] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let owned = data.owned(split).unwrap();
        let index: usize = index.parse().unwrap();
        assert_eq!(index, counts[split], "{line}");
        assert_eq!(
            owned.labels.as_ref().unwrap()[index].to_string(),
            label,
            "{line}"
        );
        *counts.get_mut(split).unwrap() += 1;
        images.insert(points, &bytes(owned)[index * 3072..][..3072]);
    }
    assert_eq!(counts, BTreeMap::from([("train", 1706), ("test", 200)]));
    // Which of red, green, blue are bright.
    let colour = |points: &str, y: usize, x: usize| {
        [0, 1, 2].map(|c| images[points][c * 1024 + y * 32 + x] > 128)
    };
    let (red, blue, white) = ([true, false, false], [false, false, true], [true; 3]);
    assert_eq!(colour("1F534", 16, 16), red, "red circle");
    assert_eq!(colour("1F535", 16, 16), blue, "blue circle");
    let indonesia = "1F1EE-1F1E9";
    assert_eq!(
        [colour(indonesia, 11, 16), colour(indonesia, 21, 16)],
        [red, white]
    );
    let france = "1F1EB-1F1F7";
    assert_eq!([colour(france, 16, 5), colour(france, 16, 26)], [blue, red]);
}

#[test]
fn the_arrays_are_those_of_the_sums() {
    let mut lines = vec![];
    for name in ["emoji", "emoji-64"] {
        let file = File::open(fixture(&format!("{name}.npz"))).unwrap();
        let mut zip = zip::ZipArchive::new(file).unwrap();
        for i in 0..zip.len() {
            let mut entry = zip.by_index(i).unwrap();
            let mut data = vec![];
            entry.read_to_end(&mut data).unwrap();
            // Version 1.0 of the format: magic, version, the header's length, the header.
            let header = usize::from(u16::from_le_bytes([data[8], data[9]]));
            let hash = zoo_files::sha256(&data[10 + header..]);
            let array = entry.name().unwrap();
            let array = array.strip_suffix(".npy").unwrap();
            lines.push(format!("{hash}  {name}/{array}"));
        }
    }
    let sums = fs::read_to_string(fixture("SHA256SUMS")).unwrap();
    assert_eq!(lines, sums.lines().collect::<Vec<_>>());
}

#[test]
fn a_set_that_was_left_behind_says_where_to_put_it() {
    let place = tempfile::tempdir().unwrap();
    let folders = ["home", "bin", "sources"].map(|f| place.path().join(f));
    let set = KNOWN.iter().find(|k| k.name == "emoji").unwrap();
    let find = || set.find("emoji/emoji.npz", &folders);
    let error = find().unwrap_err().to_string();
    insta::assert_snapshot!(error.replace(&place.path().display().to_string(), "DIR"), @"emoji: emoji/emoji.npz is not here; copy fixtures/emoji/emoji.npz of zoo's sources to DIR/home/emoji/emoji.npz (looked for: DIR/home/emoji/emoji.npz, DIR/bin/emoji/emoji.npz, DIR/sources/emoji/emoji.npz)");
    for (folder, index) in [("sources", 2), ("home", 0)] {
        let file = place.path().join(folder).join("emoji/emoji.npz");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "").unwrap();
        assert_eq!(find().unwrap(), folders[index].join("emoji/emoji.npz"));
    }
}
