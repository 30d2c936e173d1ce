use super::*;
use zoo_data::{DataSettings, Source, load, preview};

fn gradient(count: usize, channels: usize, side: usize) -> Array {
    let n = count * channels * side * side;
    let values: Vec<f32> = (0..n).map(|i| (i % 97) as f32 / 96.0).collect();
    Array::f32([count, channels, side, side], values).unwrap()
}

fn garments() -> Array {
    let data = load(
        &Source::parse("fashion-small").unwrap(),
        &DataSettings::default(),
    )
    .unwrap();
    preview(&data, "train", 10, 10).unwrap()
}

/// Leaves pictures to look at where ZOO_LOOK names a folder.
fn look(name: &str, picture: &DynamicImage) {
    if let Ok(folder) = std::env::var("ZOO_LOOK") {
        save_png(picture, &Path::new(&folder).join(name)).unwrap();
    }
}

#[test]
fn a_grid_shows_every_pixel_as_a_square() {
    let images = Array::f32(
        [3, 1, 2, 2],
        (0..12).map(|i| i as f32 / 11.0).collect::<Vec<_>>(),
    )
    .unwrap();
    let picture = grid(&images, 2, Some(3)).unwrap().into_luma8();
    assert_eq!(picture.dimensions(), (2 + 2 * 8, 2 + 2 * 8));
    for i in 0..12usize {
        let (image, y, x) = (i / 4, i / 2 % 2, i % 2);
        let left = 2 + (image % 2) * 8 + x * 3;
        let top = 2 + (image / 2) * 8 + y * 3;
        let expected = (i as f32 / 11.0 * 255.0).round() as u8;
        for (dx, dy) in [(0, 0), (2, 2)] {
            let seen = picture.get_pixel((left + dx) as u32, (top + dy) as u32).0[0];
            assert_eq!(seen, expected, "value {i}");
        }
    }
    // The place of the fourth image is left as gap.
    assert_eq!(picture.get_pixel(12, 12).0[0], picture.get_pixel(0, 0).0[0]);
}

#[test]
fn colour_and_values_that_are_no_grey() {
    let rgb = Array::f32([1, 3, 1, 1], vec![1.0, 0.5, 0.0]).unwrap();
    let picture = grid(&rgb, 1, Some(1)).unwrap().into_rgb8();
    assert_eq!(picture.get_pixel(2, 2).0, [255, 128, 0]);
    let odd = Array::f32([1, 1, 1, 3], vec![f32::NAN, 2.0, -1.0]).unwrap();
    let picture = grid(&odd, 1, Some(1)).unwrap().into_rgb8();
    assert_eq!(picture.get_pixel(2, 2).0, [255, 0, 200]);
    assert_eq!(picture.get_pixel(3, 2).0, [255; 3]);
    assert_eq!(picture.get_pixel(4, 2).0, [0; 3]);
}

#[test]
fn what_is_no_batch_of_images_is_refused() {
    let cases: [(Array, &str); 4] = [
        (
            Array::f32([4], vec![0.0; 4]).unwrap(),
            "grid: expected f32 [N,C,H,W] with 1 or 3 channels, got f32[4]",
        ),
        (
            Array::f32([1, 2, 1, 1], vec![0.0; 2]).unwrap(),
            "grid: expected f32 [N,C,H,W] with 1 or 3 channels, got f32[1, 2, 1, 1]",
        ),
        (
            Array::u8([1, 1, 1, 1], vec![0]).unwrap(),
            "grid: expected f32 [N,C,H,W] with 1 or 3 channels, got u8[1, 1, 1, 1]",
        ),
        (
            Array::f32([2, 1, 1000, 1000], vec![0.0; 2_000_000]).unwrap(),
            "grid: 20006x10004 pixels",
        ),
    ];
    for (images, message) in cases {
        let error = grid(&images, 8, Some(10))
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert!(grid(&gradient(0, 1, 4), 8, None).is_ok());
    assert!(grid(&gradient(2, 1, 4), 0, Some(0)).is_ok());
    assert!(grid(&gradient(1, 1, 4), 1, Some(u32::MAX)).is_err());
}

#[test]
fn a_grid_of_garments_fits_a_page() {
    let picture = grid(&garments(), 10, None).unwrap();
    look("grid.png", &picture);
    assert_eq!((picture.width(), picture.height()), (862, 862));
    assert!(matches!(picture, DynamicImage::ImageLuma8(_)));
}

#[test]
fn sheets_set_rows_under_each_other() {
    let images = garments().rows(0, 8);
    let nothing = Array::f32([8, 1, 28, 28], vec![0.0; 8 * 784]).unwrap();
    let rows = [
        ("candle", &images),
        ("tract\nmax 2.4e-7", &images),
        ("ort\nmax 3.1e-7", &images),
        ("difference x 1000", &nothing),
    ];
    let sheet = beside("decode: the same noise in every runtime", &rows).unwrap();
    look("beside.png", &sheet);
    // Four rows of 84 pixels, a heading, margins.
    assert_eq!(sheet.height(), 4 * 86 + 32 + 24);
    let sheet = sheet.into_luma8();
    let row = |top: u32| -> Vec<u8> {
        (200..400)
            .flat_map(|x| (0..84).map(move |y| (x, top + y)))
            .map(|(x, y)| sheet.get_pixel(x, y).0[0])
            .collect()
    };
    assert_eq!(row(44), row(44 + 86));
    assert_ne!(row(44), row(44 + 3 * 86));

    let error = beside("", &[("a", &images), ("b", &gradient(1, 1, 4))]).unwrap_err();
    insta::assert_snapshot!(error, @r#"comparison sheet: the images of row "b" are [4, 4], those of the first row [28, 28] (height, width)"#);
    assert!(beside("nothing", &[]).is_ok());
    assert_eq!(strip(&images, Some(1)).unwrap().height(), 32);
}

#[test]
fn pictures_are_written_whole_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    for channels in [1, 3] {
        let images = gradient(1, channels, 5);
        save_png(&grid(&images, 1, Some(1)).unwrap(), &path).unwrap();
        let read = read_image(&path).unwrap();
        assert_eq!(read.shape(), [channels, 9, 9]);
        let (read, given) = (read.as_f32().unwrap(), images.as_f32().unwrap());
        for c in 0..channels {
            assert!((read[c * 81 + 2 * 9 + 2] - given[c * 25]).abs() <= 0.5 / 255.0 + 1e-6);
        }
    }
    assert_eq!(
        folder.path().read_dir().unwrap().count(),
        1,
        "no temporary file is left"
    );
    let error = save_png(
        &grid(&gradient(1, 1, 2), 1, None).unwrap(),
        &folder.path().join("no/a.png"),
    );
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no/a.png: cannot be written")
    );
    assert!(
        read_image(&folder.path().join("none.png"))
            .unwrap_err()
            .to_string()
            .contains("none.png")
    );
}

fn noisy_loss(n: usize) -> Vec<(f64, f64)> {
    let noise = zoo_sdk::Stream::new(1).normal(n);
    (0..n)
        .map(|i| {
            (
                i as f64,
                240.0 + 300.0 * (-(i as f64) / 150.0).exp() + 6.0 * f64::from(noise[i]),
            )
        })
        .collect()
}

#[test]
fn plots_of_every_kind_of_values() {
    let line = |name: &str, points: Vec<(f64, f64)>| Series {
        name: name.to_owned(),
        points,
    };
    let loss = noisy_loss(1500);
    let valid: Vec<_> = (1..=10)
        .map(|i| (f64::from(i) * 150.0, 238.0 + 180.0 / f64::from(i)))
        .collect();
    let scaled = |k: f64| {
        loss.iter()
            .map(|&(x, y)| (x, (y - 220.0) * k))
            .collect::<Vec<_>>()
    };
    let cases = [
        (
            "loss",
            vec![line("train", loss.clone()), line("valid", valid)],
            Scale::Linear,
        ),
        (
            "log",
            vec![
                line("total", scaled(1.0)),
                line("kl", scaled(0.001)),
                line("tiny", scaled(1e-5)),
            ],
            Scale::Log,
        ),
        (
            "short",
            vec![line(
                "a",
                vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0), (3.0, -2.5)],
            )],
            Scale::Linear,
        ),
        (
            "constant",
            vec![line("a", vec![(0.0, 5.0), (1.0, 5.0)])],
            Scale::Log,
        ),
        ("point", vec![line("a", vec![(7.0, 0.0)])], Scale::Linear),
        ("empty", vec![line("a", vec![])], Scale::Linear),
        (
            "negative",
            vec![line("a", vec![(0.0, -1.0), (1.0, 0.0)])],
            Scale::Log,
        ),
        (
            "huge",
            vec![line(
                "a",
                vec![(0.0, -1e308), (1.0, f64::INFINITY), (1e308, 1e308)],
            )],
            Scale::Linear,
        ),
        (
            "tiny",
            vec![line("a", vec![(0.0, 1e-310), (1.0, 1e-300)])],
            Scale::Log,
        ),
        (
            "close",
            vec![line("a", vec![(0.0, 0.50001), (1.0, 0.50002)])],
            Scale::Linear,
        ),
        (
            "many",
            (0..40)
                .map(|i| line(&format!("loss {i}"), vec![(0.0, f64::from(i)), (1.0, 0.0)]))
                .collect(),
            Scale::Linear,
        ),
    ];
    for (name, series, scale) in cases {
        let picture = plot(
            &format!("vae on fashion-small: {name}"),
            "step",
            &series,
            scale,
        );
        assert_eq!((picture.width(), picture.height()), (900, 540), "{name}");
        look(&format!("plot-{name}.png"), &picture);
    }
}

#[test]
fn a_line_is_where_its_values_are() {
    let points = vec![(0.0, 0.0), (10.0, 10.0)];
    let series = [Series {
        name: "a".to_owned(),
        points,
    }];
    let picture = plot("", "x", &series, Scale::Linear).into_rgb8();
    let blue = |p: &image::Rgb<u8>| p[2] > p[0].saturating_add(80);
    let mean = |axis: fn((u32, u32)) -> u32, from: u32, to: u32| {
        let hits = picture
            .enumerate_pixels()
            .filter(|(x, _, p)| (from..to).contains(x) && blue(p));
        let places: Vec<u32> = hits.map(|(x, y, _)| axis((x, y))).collect();
        f64::from(places.iter().sum::<u32>()) / places.len() as f64
    };
    // It rises to the right: left of the legend, where only the line is blue.
    assert!(mean(|p| p.1, 100, 200) > mean(|p| p.1, 600, 700) + 200.0);
}

#[test]
fn tick_texts() {
    assert_eq!(
        plot::tick_texts(0.0, 1.0),
        ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    );
    assert_eq!(
        plot::tick_texts(0.0, 40000.0),
        ["0", "10k", "20k", "30k", "40k"]
    );
    assert_eq!(
        plot::tick_texts(-3.0, 3.0),
        ["-3", "-2", "-1", "0", "1", "2", "3"]
    );
}

#[test]
fn thumbnails_show_the_garment() {
    let images = garments();
    let image = |i: usize| images.rows(i, i + 1).reshaped([1, 28, 28]).unwrap();
    insta::assert_snapshot!(thumbnail(&image(0)).unwrap(), @r#"
    |  .=+##*#**=  |
    |  ##%=++*=%%= |
    | :*#%+++++#*+ |
    |   .######*   |
    |    ####%#+   |
    |    ###%%#*   |
    |    ######*   |
    mean 0.42 min 0.00 max 1.00
    "#);
    insta::assert_snapshot!(thumbnail(&image(90)).unwrap(), @r#"
    |              |
    |       **=-:::|
    |      =%%%%#%=|
    |     :#%%%%%%-|
    |-**#%%#*#%#%%=|
    |-######%%%###+|
    |  .:--::::::. |
    mean 0.38 min 0.00 max 1.00
    "#);
}

#[test]
fn thumbnails_keep_still_under_noise() {
    let images = garments();
    for i in 0..100 {
        let image = images.rows(i, i + 1).reshaped([1, 28, 28]).unwrap();
        let noise = zoo_sdk::Stream::new(9).at(i as u64).uniform(784);
        let values = image.as_f32().unwrap().iter().zip(noise);
        let moved: Vec<f32> = values.map(|(v, u)| v + (2.0 * u - 1.0) * 1e-4).collect();
        let moved = thumbnail(&Array::f32([1, 28, 28], moved).unwrap()).unwrap();
        // The picture; the statistics below it may round otherwise.
        let signs = |t: &str| t.lines().take(7).collect::<Vec<_>>().join("\n");
        assert_eq!(
            signs(&moved),
            signs(&thumbnail(&image).unwrap()),
            "image {i}"
        );
    }
}

#[test]
fn thumbnails_of_odd_images() {
    let text = |shape: [usize; 3], value: f32| {
        thumbnail(&Array::f32(shape, vec![value; shape.iter().product()]).unwrap()).unwrap()
    };
    insta::assert_snapshot!(text([1, 1, 1], 1.0), @"
    |@|
    mean 1.00 min 1.00 max 1.00
    ");
    insta::assert_snapshot!(text([3, 2, 4], 0.5), @"
    |++++|
    mean 0.50/0.50/0.50 min 0.50 max 0.50
    ");
    assert_eq!(text([1, 2, 2], -0.001), "|  |\nmean 0.00 min 0.00 max 0.00");
    assert!(text([1, 4, 4], f32::NAN).starts_with("|!!!!|"));
    assert!(text([1, 4, 4], f32::NAN).ends_with("16 values not finite"));
    assert!(thumbnail(&Array::f32([1, 0, 4], vec![]).unwrap()).is_err());
    assert!(thumbnail(&gradient(1, 1, 4)).is_err());
}
