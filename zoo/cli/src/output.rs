//! Standard output: results and nothing else.

use std::io::{ErrorKind, Write};

use serde::Serialize;

use crate::failure::{FAILED, Failure, Result};

/// Writes `text`. A reader that has gone away (`zoo models | head -1`) is no error: it has what it wanted.
pub fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::usage(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Writes one JSON value, indented.
pub fn print_json(value: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::new(FAILED, &error))?;
    text.push('\n');
    print(&text)
}

/// Rows of cells in columns; what looks like a number stands to the right. The first row is the head.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &'_ Vec<String>, i: usize| row.get(i).cloned().unwrap_or_default();
    let width = |i: usize| {
        let widths = rows.iter().map(|row| cell(row, i).chars().count());
        widths.max().unwrap_or(0)
    };
    let number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let right: Vec<bool> = (0..columns)
        .map(|i| rows.len() > 1 && rows[1..].iter().all(|row| number(&cell(row, i))))
        .collect();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for i in 0..columns {
            let (cell, width) = (cell(row, i), widths[i]);
            if right[i] {
                line.push_str(&format!("{cell:>width$}  "));
            } else {
                line.push_str(&format!("{cell:<width$}  "));
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A row of a [`table`].
pub fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// A number for people: `123.4`, `0.00123`, `5e-7`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    match size {
        _ if !value.is_finite() => value.to_string(),
        0.0 => "0".to_owned(),
        1000.0.. => format!("{value:.1}"),
        10.0.. => format!("{value:.2}"),
        0.01.. => format!("{value:.4}"),
        _ => format!("{value:.2e}"),
    }
}

/// `text` in lines of at most `width` columns, each after `indent` spaces.
pub fn wrap(text: &str, indent: usize, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last().map_or(0, |l| l.chars().count());
        if line > 0 && indent + line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    let pad = " ".repeat(indent);
    lines.iter().map(|l| format!("{pad}{l}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [
            row(["name", "images"]),
            row(["a", "5"]),
            row(["long", "10"]),
        ];
        assert_eq!(table(&rows), "name  images\na          5\nlong      10\n");
        assert_eq!(table(&[]), "");
        assert_eq!(table(&[row(["only", "head"])]), "only  head\n");
    }

    #[test]
    fn numbers_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (-123.456, "-123.46"),
            (4567.89, "4567.9"),
            (0.5, "0.5000"),
            (1.5e-7, "1.50e-7"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn lines_wrap_between_words() {
        assert_eq!(wrap("aa bb cc", 2, 7), "  aa bb\n  cc\n");
        assert_eq!(wrap("unbreakable", 0, 4), "unbreakable\n");
    }
}
