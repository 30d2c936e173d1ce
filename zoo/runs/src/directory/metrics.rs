//! `metrics.jsonl`: one JSON object per line, one line per step or measurement.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use zoo_files::Disk;
use zoo_sdk::{Event, Metrics};

use crate::{Error, Result};

/// A line of `metrics.jsonl`. `time` and `images_per_s` are the only fields that differ between two runs of one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Record {
    /// After a step.
    Step {
        /// Steps done.
        step: u64,
        /// Passes over the data done.
        epoch: f64,
        /// The objective's terms.
        losses: BTreeMap<String, Option<f64>>,
        /// Learning rate of the step.
        learning_rate: f64,
        /// Largest norm of the gradients over the phases, before clipping; null where it is not finite.
        gradient_norm: Option<f64>,
        /// Speed.
        images_per_s: Option<f64>,
        /// Seconds since 1970.
        time: f64,
    },
    /// Metrics on held-out data.
    Metrics {
        /// Steps done.
        step: u64,
        /// Values by name; null where one is not finite.
        metrics: BTreeMap<String, Option<f64>>,
        /// Seconds since 1970.
        time: f64,
    },
}

impl Record {
    /// The line for an event, where it leaves one.
    pub fn of(event: &Event) -> Option<Self> {
        let finite = |x: f64| x.is_finite().then_some(x);
        match event {
            Event::Step {
                step,
                epoch,
                losses,
                learning_rate,
                gradient_norm,
                images_per_s,
            } => Some(Self::Step {
                step: *step,
                epoch: *epoch,
                losses: losses
                    .iter()
                    .map(|term| (term.name.clone(), finite(term.value)))
                    .collect(),
                learning_rate: *learning_rate,
                gradient_norm: finite(*gradient_norm),
                images_per_s: finite(*images_per_s),
                time: now(),
            }),
            Event::Metrics { step, metrics } => Some(Self::Metrics {
                step: *step,
                metrics: metrics
                    .iter()
                    .map(|(name, value)| (name.clone(), finite(*value)))
                    .collect(),
                time: now(),
            }),
            _ => None,
        }
    }

    /// Steps done when it was written.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step { step, .. } | Self::Metrics { step, .. } => *step,
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}

/// `metrics.jsonl`, open at its end.
#[derive(Debug)]
pub(crate) struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens the file and drops records after `step`, and a last line that was cut off.
    pub(crate) fn open(disk: &Disk, path: &Path, step: u64) -> Result<Self> {
        let failed = |action| Error::io(action, path);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed("open"))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed("read"))?;
        let kept: Vec<u8> = text
            .split_inclusive(|&b| b == b'\n')
            .filter(|line| line.ends_with(b"\n"))
            .filter(|line| {
                serde_json::from_slice(line).is_ok_and(|record: Record| record.step() <= step)
            })
            .flatten()
            .copied()
            .collect();
        if kept != text {
            disk.replace(path, &kept)?;
            file = OpenOptions::new()
                .write(true)
                .open(path)
                .map_err(failed("open"))?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed("read"))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    pub(crate) fn write(&mut self, record: &Record) -> Result<()> {
        let mut line = serde_json::to_vec(record).map_err(|e| Error::Corrupt {
            path: self.path.clone(),
            what: e.to_string(),
        })?;
        line.push(b'\n');
        // In one call: a reader beside us sees whole lines.
        self.file
            .write_all(&line)
            .map_err(Error::io("write", &self.path))
    }

    /// Before a checkpoint: what led to it must not be lost after it.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.file
            .sync_data()
            .map_err(Error::io("write", &self.path))
    }
}

/// All records of a run. Lines that cannot be read are left out: the last one may be half written.
///
/// # Errors
/// Where the file cannot be read.
pub fn read_metrics(path: &Path) -> Result<Vec<Record>> {
    let text = std::fs::read(path).map_err(Error::io("read", path))?;
    Ok(text
        .split(|&b| b == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// Those of `metrics` that are finite: JSON has no other numbers.
pub(crate) fn finite(metrics: &Metrics) -> Metrics {
    metrics
        .iter()
        .filter(|(_, value)| value.is_finite())
        .map(|(name, value)| (name.clone(), *value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> Event {
        Event::Step {
            step,
            epoch: step as f64 / 10.0,
            losses: vec![zoo_sdk::LossTerm {
                name: "loss".into(),
                value: 1.0 / step as f64,
            }],
            learning_rate: 1e-3,
            gradient_norm: f64::NAN,
            images_per_s: f64::INFINITY,
        }
    }

    #[test]
    fn records_after_the_resumed_step_go_and_half_lines_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let disk = Disk::default();
        let mut file = MetricsFile::open(&disk, &path, 0).unwrap();
        for n in 1..=5 {
            file.write(&Record::of(&step(n)).unwrap()).unwrap();
        }
        let metrics = Event::Metrics {
            step: 3,
            metrics: [("nll".to_owned(), 2.0)].into(),
        };
        file.write(&Record::of(&metrics).unwrap()).unwrap();
        drop(file);
        let whole = std::fs::read(&path).unwrap();
        let mut cut = whole.clone();
        cut.extend(b"{\"event\":\"step\",\"step\":1,");
        std::fs::write(&path, cut).unwrap();

        let mut file = MetricsFile::open(&disk, &path, 3).unwrap();
        file.write(&Record::of(&step(4)).unwrap()).unwrap();
        let steps: Vec<_> = read_metrics(&path)
            .unwrap()
            .iter()
            .map(Record::step)
            .collect();
        assert_eq!(steps, [1, 2, 3, 3, 4]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains(r#""gradient_norm":null,"images_per_s":null"#),
            "{text}"
        );
        assert_eq!(text.lines().count(), 5);
    }
}
