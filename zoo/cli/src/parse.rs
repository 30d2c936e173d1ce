//! Values of options.

use std::path::PathBuf;
use std::time::Duration;

use zoo_deploy::Given;

/// A run or a bundle: a path, or `pretrained:NAME`.
pub fn trained(text: &str) -> Result<PathBuf, String> {
    zoo_deploy::pretrained::resolve(text).map_err(|error| error.to_string())
}

/// `H=128`: what a symbol of a graph stands for.
pub fn named_size(text: &str) -> Result<(String, usize), String> {
    let pair = text.split_once('=').and_then(|(name, size)| {
        let size = size.trim().parse().ok().filter(|size| *size > 0)?;
        Some((name.trim().to_owned(), size))
    });
    pair.ok_or_else(|| format!("{text:?} is no size: write NAME=NUMBER, such as H=128"))
}

/// A run or a bundle as [`trained`] takes it, or a part of its weights: `RUN:decoder`.
pub fn start(text: &str) -> Result<PathBuf, String> {
    let prefix = zoo_deploy::pretrained::PREFIX;
    let Some((name, part)) = text
        .strip_prefix(prefix)
        .and_then(|name| name.split_once(':'))
    else {
        return trained(text);
    };
    let mut path = trained(&format!("{prefix}{name}"))?;
    path.as_mut_os_string().push(format!(":{part}"));
    Ok(path)
}

/// `90s`, `10m`, `1h30m`, `1.5h`, or seconds without a unit.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("{text:?} is no duration: write 90s, 10m, 1h or 1h30m");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut seconds = 0.0;
    if rest.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        seconds = rest.parse().map_err(|_| bad())?;
        rest = "";
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (value, after) = rest.split_at(digits);
        let value: f64 = value.parse().map_err(|_| bad())?;
        let unit = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        seconds += value
            * match unit {
                "ms" => 1e-3,
                "s" | "sec" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(bad()),
            };
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| !d.is_zero())
        .ok_or_else(bad)
}

/// A duration for people: `1h02m`, `3m05s`, `12.3s`.
pub fn time(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `key=value`, the key not empty.
pub fn key_value(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((key, _)) if !key.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(format!(
            "{text:?} is no setting: write key=value, as in train.batch=64"
        )),
    }
}

/// `name=file`, both not empty.
pub fn named_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(file)))
        }
        _ => Err(format!(
            "{text:?} is no input: write name=file.npy, as in z=noise.npy"
        )),
    }
}

/// `name=number`, or `name=@file`.
pub fn given(text: &str) -> Result<(String, Given), String> {
    let given = text.split_once('=').and_then(|(name, value)| {
        let given = match value.strip_prefix('@') {
            Some(file) => Given::File(file.into()),
            None => Given::Number(value.parse().ok().filter(|v: &f64| v.is_finite())?),
        };
        Some((name.to_owned(), given))
    });
    let given = given.filter(|(name, given)| !name.is_empty() && *given != Given::File("".into()));
    given.ok_or_else(|| {
        format!("{text:?} is no input: write name=number, as in steps=8, or name=@file.npy")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("10m", 600.0),
            ("1h", 3600.0),
            ("1h30m", 5400.0),
            ("1h 30m", 5400.0),
            ("1.5h", 5400.0),
            ("250ms", 0.25),
            ("45", 45.0),
            ("2d", 172_800.0),
            ("3min", 180.0),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in [
            "",
            " ",
            "0s",
            "-5s",
            "10x",
            "m",
            "1h30",
            "30 1h",
            "1..2s",
            "1e9",
            "inf",
            "nan",
            "10 m",
            "99999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration("ten").unwrap_err().contains("10m"));
    }

    #[test]
    fn times_for_people() {
        let text = |s| time(Duration::from_secs_f64(s));
        assert_eq!(text(12.34), "12.3s");
        assert_eq!(text(185.0), "3m05s");
        assert_eq!(text(3720.0), "1h02m");
    }

    #[test]
    fn pairs() {
        assert_eq!(key_value("train.lr=0.1").unwrap(), "train.lr=0.1");
        assert!(key_value("beta=").is_ok());
        assert!(key_value("beta").unwrap_err().contains("key=value"));
        assert!(key_value(" =3").is_err());
        assert_eq!(
            named_file("z=a=b.npy").unwrap(),
            ("z".to_owned(), PathBuf::from("a=b.npy"))
        );
        for text in ["z", "z=", "=a.npy", ""] {
            assert!(named_file(text).is_err(), "{text}");
        }
        for (text, value) in [
            ("steps=8", Given::Number(8.0)),
            ("t=-1e-3", Given::Number(-1e-3)),
            ("t=@a=b.npy", Given::File("a=b.npy".into())),
        ] {
            assert_eq!(given(text).unwrap().1, value, "{text}");
        }
        for text in ["t", "t=", "=1", "t=nan", "t=a.npy", "t=@"] {
            assert!(given(text).is_err(), "{text}");
        }
    }
}
