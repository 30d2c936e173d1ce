//! The demo's pictures.

use std::path::PathBuf;

use image::{DynamicImage, Rgb, RgbImage, imageops};
use zoo_data::{DataSettings, Source};
use zoo_deploy::{Error, Result, SampleOptions, sample};
use zoo_pictures::Scale;
use zoo_runs::directory::losses;
use zoo_runs::{Observer, Registry, Which, open};
use zoo_runtimes::Search;
use zoo_sdk::{Array, GraphKind, PortRole, RuntimeId, Tensors};

use super::Demo;
use super::plan::{DATA, Part};

/// Their names.
pub(super) const NAMES: [&str; 5] = [
    "training.png",
    "vae-samples.png",
    "gan-samples.png",
    "reconstructions.png",
    "runtimes.png",
];

/// Draws all of them.
pub(super) fn draw(
    registry: &Registry,
    options: &Demo,
    search: &Search,
    parts: &[Part],
    observer: &mut dyn Observer,
) -> Result<Vec<PathBuf>> {
    let mut drawn = Vec::new();
    let mut save = |name: &str, picture: &DynamicImage| -> Result<()> {
        let path = options.out.join(name);
        zoo_pictures::save_png(picture, &path)?;
        observer.picture(0, &path);
        drawn.push(path);
        Ok(())
    };
    save("training.png", &training(parts)?)?;
    for part in parts {
        let mut sampling = SampleOptions::new(part.trained.run.root());
        (sampling.count, sampling.seed) = (80, options.seed);
        sampling.threads = options.threads.unwrap_or(0);
        let images = sample(registry, &sampling)?.images;
        let name = format!("{}-samples.png", part.model());
        save(&name, &zoo_pictures::grid(&images, 10, None)?)?;
    }
    for part in parts {
        if let Some(picture) = reconstructions(registry, options, part)? {
            save("reconstructions.png", &picture)?;
        }
    }
    let sheets = parts
        .iter()
        .map(|part| runtimes(registry, options.seed, search, part))
        .collect::<Result<Vec<_>>>()?;
    save("runtimes.png", &stacked(&sheets))?;
    Ok(drawn)
}

/// The losses of each training, under each other.
fn training(parts: &[Part]) -> Result<DynamicImage> {
    let plots = parts.iter().map(|part| {
        let series = losses(&part.trained.run)?;
        let title = format!("{}: losses", part.plan.title);
        Ok(zoo_pictures::plot(&title, "step", &series, Scale::Linear))
    });
    Ok(stacked(&plots.collect::<Result<Vec<_>>>()?))
}

/// Test images, one of each class, over what the model makes of them; none for a model that does not reconstruct.
fn reconstructions(
    registry: &Registry,
    options: &Demo,
    part: &Part,
) -> Result<Option<DynamicImage>> {
    let trained = open(registry, part.trained.run.root(), Which::Auto)?;
    let session = trained.session(registry, options.threads.unwrap_or(0), "cpu")?;
    let failed = || Error::plugin(part.model());
    if !session
        .graphs()
        .map_err(failed())?
        .iter()
        .any(|g| g.kind() == GraphKind::Reconstruct)
    {
        return Ok(None);
    }
    let images = Source::parse(DATA)
        .and_then(|source| zoo_data::load(&source, &DataSettings::default()))
        .and_then(|data| zoo_data::preview(&data, "test", 1, 10))
        .map_err(zoo_runs::Error::Data)?;
    let inputs = Tensors::from([(PortRole::Image.to_string(), images.clone())]);
    let outputs = session
        .run(GraphKind::Reconstruct.name(), &inputs)
        .map_err(failed())?;
    let made = outputs
        .get(PortRole::Reconstruction.name())
        .ok_or_else(|| Error::Usage("the graph reconstruct gave no x_hat".to_owned()))?;
    let title = format!("{}: test images and reconstructions", part.plan.title);
    let rows = [("test image", &images), ("reconstruction", made)];
    Ok(Some(zoo_pictures::beside(&title, &rows)?))
}

/// The same noise in candle and in every runtime that was verified, with the differences made visible.
fn runtimes(registry: &Registry, seed: u64, search: &Search, part: &Part) -> Result<DynamicImage> {
    let mut compared = vec![RuntimeId::Candle];
    for row in &part.verified.results {
        if !compared.contains(&row.runtime) {
            compared.push(row.runtime.clone());
        }
    }
    let mut rows: Vec<(String, Array)> = Vec::new();
    for runtime in compared {
        let mut sampling = SampleOptions::new(&part.exported.dir);
        (sampling.count, sampling.seed) = (10, seed);
        sampling.runtime = Some(runtime.clone());
        sampling.search = search.clone();
        let images = sample(registry, &sampling)?.images;
        let candle = rows.first().map(|(_, images)| images);
        let difference = candle
            .map(|candle| amplified(candle, &images))
            .transpose()?;
        rows.push((runtime.to_string(), images));
        rows.extend(difference);
    }
    let rows: Vec<(&str, &Array)> = rows.iter().map(|(l, i)| (l.as_str(), i)).collect();
    let title = format!("{}: the same noise everywhere", part.plan.title);
    Ok(zoo_pictures::beside(&title, &rows)?)
}

/// |a - b|, times the round number that makes the largest difference all but white, with a label that says which.
fn amplified(a: &Array, b: &Array) -> Result<(String, Array)> {
    let differences: Vec<f64> = a
        .to_f64()
        .iter()
        .zip(b.to_f64())
        .map(|(a, b)| (a - b).abs())
        .collect();
    let largest = differences.iter().copied().fold(0.0, f64::max);
    let factor = if largest > 0.0 && largest.is_finite() {
        let power = 10f64.powf((1.0 / largest).log10().floor());
        let mut steps = [5.0, 2.0, 1.0].into_iter().map(|step| step * power);
        steps.find(|f| f * largest <= 1.0).unwrap_or(power)
    } else {
        1.0
    };
    let label = match largest {
        0.0 => "no difference".to_owned(),
        _ => format!("difference\nx {factor:e}"),
    };
    let values: Vec<f32> = differences.iter().map(|d| (d * factor) as f32).collect();
    let images = Array::f32(a.shape(), values).map_err(|e| Error::Usage(e.to_string()))?;
    Ok((label, images))
}

/// Pictures under each other, on white.
fn stacked(pictures: &[DynamicImage]) -> DynamicImage {
    let width = pictures.iter().map(DynamicImage::width).max().unwrap_or(1);
    let height = pictures.iter().map(DynamicImage::height).sum::<u32>();
    let mut sheet = RgbImage::from_pixel(width, height.max(1), Rgb([255; 3]));
    let mut top = 0;
    for picture in pictures {
        imageops::replace(&mut sheet, &picture.to_rgb8(), 0, top);
        top += i64::from(picture.height());
    }
    DynamicImage::ImageRgb8(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_scaled_until_they_show() {
        let a = Array::f32([1, 1, 1, 3], [0.5, 0.25, 0.0]).unwrap();
        let b = Array::f32([1, 1, 1, 3], [0.5, 0.25 + 3e-6, 1e-6]).unwrap();
        let (label, images) = amplified(&a, &b).unwrap();
        assert_eq!(label, "difference\nx 2e5");
        let shown = images.as_f32().unwrap();
        assert!(shown[0] == 0.0 && (shown[1] - 0.6).abs() < 0.02 && (shown[2] - 0.2).abs() < 0.02);
        assert_eq!(amplified(&a, &a).unwrap().0, "no difference");
    }
}
